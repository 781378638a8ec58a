//! Bounds on memory, CPU time and waiting that a client can cause, and conduct that must not cost a
//! client its connection.

use std::time::Duration;

use balafon::{CallOptions, Encoding, Router, Server};
use h2::Reason;

use crate::support::echo::Echo;
use crate::support::peer::framed;
use crate::support::raw::{DATA, Frame, GOAWAY, HEADERS, RST_STREAM, Raw, head, head_with};
use crate::support::{TestServer, patiently};

const UNARY: &str = "/test.Echo/Unary";
const CLIENT: &str = "/test.Echo/Client";
const BIDI: &str = "/test.Echo/Bidi";
const KIB: usize = 1024;

async fn start(settings: Server) -> (TestServer, Raw) {
    let settings = settings.permit_pings(Duration::ZERO, true);
    let server =
        TestServer::start_with(settings, Router::new().add(Echo::default().service())).await;
    let raw = Raw::connect(server.addr).await;
    (server, raw)
}

/// The calls that these frames end.
fn ended(frames: &[Frame]) -> usize {
    frames.iter().filter(|frame| frame.kind == HEADERS || frame.kind == RST_STREAM).count()
}

/// A compressed message with this text.
fn compressed(encoding: Encoding, text: &str) -> Vec<u8> {
    let payload = encoding.compress(&framed(text)[5..]).unwrap();
    let length = u32::try_from(payload.len()).unwrap();
    [&[1][..], &length.to_be_bytes(), &payload].concat()
}

#[tokio::test]
async fn held_messages_count_until_the_half_close() {
    let limit = 1024 * KIB;
    let (_server, mut raw) = start(crate::support::server().connection_buffer_limit(limit)).await;
    let message = framed(&"x".repeat(200 * KIB));
    let mut refused = 0;
    for stream in (1..40).step_by(2) {
        raw.headers(stream, &head(UNARY), false).await;
        for part in message.chunks(16 * KIB) {
            raw.data(stream, part, false).await;
        }
        let frames = raw.settled().await;
        refused += frames.iter().filter(|frame| frame.field("grpc-status") == Some("8")).count();
    }
    assert!((15..=16).contains(&refused), "{refused} of 20 refused");
}

#[tokio::test]
async fn compressed_messages_are_held_compressed_until_the_half_close() {
    let limit = 1024 * KIB;
    let (_server, mut raw) = start(crate::support::server().connection_buffer_limit(limit)).await;
    let text = "x".repeat(60 * KIB);
    let head = head_with(UNARY, &[("grpc-encoding", "gzip")]);
    let message = compressed(Encoding::GZIP, &text);
    for stream in (1..40).step_by(2) {
        raw.headers(stream, &head, false).await;
        raw.data(stream, &message, false).await;
    }
    assert_eq!(ended(&raw.settled().await), 0, "all of them wait");
    raw.data(1, &[], true).await;
    let answer = raw.answer(1).await;
    assert_eq!(answer.last().unwrap().field("grpc-status"), Some("0"));
}

#[tokio::test]
async fn request_metadata_counts() {
    let limit = 256 * KIB;
    let (_server, mut raw) = start(crate::support::server().connection_buffer_limit(limit)).await;
    // Small headers, each of which takes an entry of a table.
    let fields: Vec<_> = (0..300).map(|_| ("a", "b")).collect();
    let head = head_with(UNARY, &fields);
    let mut refused = 0;
    for stream in (1..40).step_by(2) {
        raw.headers(stream, &head, false).await;
        let frames = raw.settled().await;
        refused += frames.iter().filter(|frame| frame.field("grpc-status") == Some("8")).count();
    }
    assert!((11..=14).contains(&refused), "{refused} of 20 refused");
}

#[tokio::test]
async fn short_chunks_count_as_little_as_they_are() {
    let limit = 256 * KIB;
    let (_server, mut raw) = start(crate::support::server().connection_buffer_limit(limit)).await;
    // Each call holds a kibibyte of an unfinished message, in a read buffer of its own.
    let part = [&[0, 0, 0x40, 0, 0][..], &[b'x'; KIB]].concat();
    let unknown = [0; 8 * KIB];
    for stream in (1..200).step_by(2) {
        raw.headers(stream, &head(UNARY), false).await;
        raw.data(stream, &part, false).await;
        raw.send(0xee, 0, 0, &unknown).await;
    }
    assert_eq!(ended(&raw.settled().await), 0, "none is refused");
}

#[tokio::test]
async fn early_answers_let_the_client_finish() {
    let (_server, mut raw) = start(crate::support::server()).await;
    raw.headers(1, &head("/test.Echo/Missing"), false).await;
    assert_eq!(raw.answer(1).await.last().unwrap().field("grpc-status"), Some("12"));
    for _ in 0..10 {
        raw.data(1, &framed("more"), false).await;
    }
    raw.data(1, &[], true).await;
    assert_eq!(ended(&raw.settled().await), 0, "no reset");
}

#[tokio::test]
async fn early_answers_cause_no_error_while_the_client_sends() {
    let (_server, mut raw) = start(crate::support::server()).await;
    raw.headers(1, &head("/test.Echo/Missing"), false).await;
    raw.answer(1).await;
    for _ in 0..17 {
        raw.data(1, &[0; 16 * KIB], false).await;
    }
    let reset = raw.next_kind(RST_STREAM).await;
    assert!(reset.is_reset(Reason::NO_ERROR), "{reset:?}");
}

/// The case of curl before 8.0, which waits for ever to send the rest of a stated length.
#[tokio::test]
async fn early_answer_waits_for_a_short_content_length() {
    let (_server, mut raw) = start(crate::support::server()).await;
    let request = framed("all of it");
    let length = request.len().to_string();
    let stated = head_with("/test.Echo/Missing", &[("content-length", &length)]);
    raw.headers(1, &stated, false).await;
    let early = raw.settled().await;
    assert!(early.iter().all(|frame| frame.stream != 1), "{early:?}");
    raw.data(1, &request, true).await;
    assert_eq!(raw.answer(1).await.last().unwrap().field("grpc-status"), Some("12"));

    // The wait is bounded: a request that does not come, or is long, gets its answer early.
    raw.headers(3, &stated, false).await;
    assert_eq!(raw.answer(3).await.last().unwrap().field("grpc-status"), Some("12"));
    let long = head_with("/test.Echo/Missing", &[("content-length", "65537")]);
    raw.headers(5, &long, false).await;
    let answered = |frame: &Frame| frame.field("grpc-status") == Some("12");
    assert!(raw.settled().await.iter().any(answered));
}

#[tokio::test]
async fn early_answers_leave_the_connection_alone() {
    let (_server, mut raw) = start(crate::support::server()).await;
    raw.headers(1, &head(BIDI), false).await;
    for round in 0..50_u32 {
        let streams: Vec<_> = (0..100).map(|call| 3 + 2 * (100 * round + call)).collect();
        for stream in &streams {
            raw.headers(*stream, &head("/test.Echo/Missing"), false).await;
        }
        let mut answered = 0;
        while answered < streams.len() {
            let frame = patiently(raw.next()).await.unwrap();
            assert_ne!(frame.kind, GOAWAY, "{}", frame.debug());
            answered += usize::from(frame.field("grpc-status") == Some("12"));
        }
        for stream in &streams {
            raw.data(*stream, &framed("more"), false).await;
            raw.reset(*stream, Reason::NO_ERROR).await;
        }
    }
    raw.data(1, &framed("still here"), false).await;
    let echoed = raw.until(|frame| frame.kind == DATA && frame.stream == 1).await;
    assert_eq!(echoed.payload, framed("still here"));
}

#[tokio::test]
async fn refused_streams_leave_the_connection_alone() {
    let (_server, mut raw) = start(crate::support::server().max_concurrent_streams(1)).await;
    raw.headers(1, &head(BIDI), false).await;
    for stream in (3..4003).step_by(2) {
        raw.headers(stream, &head(UNARY), true).await;
        let reset = raw.next_kind(RST_STREAM).await;
        assert!(reset.is_reset(Reason::REFUSED_STREAM), "{reset:?}");
    }
    raw.data(1, &framed("still here"), false).await;
    assert_eq!(raw.next_kind(DATA).await.payload, framed("still here"));
}

#[tokio::test]
async fn data_for_ended_calls_leaves_the_connection_alone() {
    let (_server, mut raw) = start(crate::support::server()).await;
    raw.headers(1, &head(BIDI), false).await;
    for stream in (3..23).step_by(2) {
        raw.headers(stream, &head("/test.Echo/Missing"), false).await;
        raw.until(|frame| frame.field("grpc-status") == Some("12")).await;
        raw.reset(stream, Reason::CANCEL).await;
        for _ in 0..7_000 {
            raw.data(stream, b"x", false).await;
        }
    }
    raw.data(1, &framed("still here"), false).await;
    let echoed = raw.until(|frame| frame.kind == DATA && frame.stream == 1).await;
    assert_eq!(echoed.payload, framed("still here"));
}

#[tokio::test]
async fn compression_bombs_exhaust_only_their_connections_budget() {
    let (server, mut raw) = start(crate::support::server()).await;
    let head = head_with(UNARY, &[("grpc-encoding", "gzip")]);
    let bomb = compressed(Encoding::GZIP, &"\0".repeat(5 << 20));
    let ordinary = compressed(Encoding::GZIP, "an ordinary message");
    // The budget refills with time, and each bomb takes longer on a busy machine.
    let mut streams = (1..201).step_by(2);
    loop {
        let stream = streams.next().expect("the budget is used up");
        raw.request(stream, &head, &bomb).await;
        let answer = raw.answer(stream).await;
        assert_eq!(answer[0].field("grpc-status"), Some("8"));
        if answer[0].field("grpc-message").unwrap().contains("inflate") {
            break;
        }
    }
    for raw in [raw, Raw::connect(server.addr).await] {
        let mut raw = raw;
        raw.request(201, &head, &ordinary).await;
        assert_eq!(raw.answer(201).await.last().unwrap().field("grpc-status"), Some("0"));
    }
}

#[tokio::test]
async fn compressed_messages_over_the_limit_cost_their_connection() {
    let limited = CallOptions::new().max_receive_message_size(KIB);
    let head = head_with(UNARY, &[("grpc-encoding", "gzip")]);
    // Each is refused at its header, before anything is decompressed.
    let too_long = [&[1, 0, 0, 8, 0][..], &[0; 2 * KIB]].concat();
    let (_server, mut raw) = start(Server::new().calls(limited)).await;
    // In a row: the budget for refused messages refills with time.
    for stream in (1..601).step_by(2) {
        raw.request(stream, &head, &too_long).await;
    }
    let answer = raw.until(|frame| frame.field("grpc-status").is_some()).await;
    assert_eq!(answer.field("grpc-status"), Some("8"), "{}", answer.debug());
    raw.next_kind(GOAWAY).await;
}

#[tokio::test]
async fn slow_requests_end_at_their_time_limit() {
    let time = Duration::from_millis(300);
    let (_server, mut raw) =
        start(crate::support::server().calls(CallOptions::new().request_timeout(time))).await;
    raw.headers(1, &head(CLIENT), false).await;
    raw.headers(3, &head(UNARY), false).await;
    raw.data(3, &framed("complete but for its end"), false).await;
    let begun = tokio::time::Instant::now();
    let answer = raw.answer(3).await;
    assert_eq!(answer[0].field("grpc-status"), Some("4"));
    assert!(answer[0].field("grpc-message").unwrap().contains("within the 300ms"));
    assert!(begun.elapsed() >= time);
    raw.data(1, &framed("streams may take longer"), true).await;
    assert_eq!(raw.answer(1).await.last().unwrap().field("grpc-status"), Some("0"));
}

#[tokio::test]
async fn calls_end_after_their_maximum_duration() {
    let options = CallOptions::new().max_duration(Duration::from_millis(300));
    let router = Router::new().add(Echo::default().service()).configure("test.Echo/Bidi", options);
    let server = TestServer::start(router).await;
    let mut raw = Raw::connect(server.addr).await;
    let begun = tokio::time::Instant::now();
    raw.headers(1, &head_with(BIDI, &[("grpc-timeout", "1H")]), false).await;
    let answer = raw.answer(1).await;
    assert_eq!(answer[0].field("grpc-status"), Some("4"));
    assert!(answer[0].field("grpc-message").unwrap().contains("server allows"));
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

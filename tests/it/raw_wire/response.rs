//! Responses, frame by frame.

use std::sync::Arc;

use balafon::{AsciiKey, Request, Router, Rpc, Service, Sink, Status};
use h2::Reason;
use tokio::sync::Notify;

use super::{
    BIDI, CLIENT, SERVER, UNARY, assert_served, assert_trailers_only, echo, messages, mirror,
    serve, server, status, unary,
};
use crate::support::TestServer;
use crate::support::peer::framed;
use crate::support::raw::{HEADERS, MAX_HEADER_LIST_SIZE, RST_STREAM, Raw, head, head_with};

static OWN_SERVER: Rpc<String, String> = Rpc::server_streaming("/test.Own/Server");

#[tokio::test]
async fn status_comes_exactly_once() {
    let (_server, _, mut raw) = echo().await;
    let cases = [
        (UNARY, "a", "0"),
        (UNARY, "fail", "5"),
        (UNARY, "panic", "2"),
        (UNARY, "metadata", "0"),
        (SERVER, "count 3", "0"),
        (SERVER, "count 0", "0"),
        (SERVER, "fail", "5"),
        (CLIENT, "a", "0"),
        (BIDI, "a", "0"),
        (BIDI, "fail", "5"),
        ("/none", "a", "12"),
    ];
    for (stream, (path, message, code)) in (1..).step_by(2).zip(cases) {
        raw.request(stream, &head(path), &framed(message)).await;
        let answer = raw.answer(stream).await;
        assert_eq!(answer[0].field(":status"), Some("200"));
        // It counts the attempts.
        assert_eq!(status(&answer), code, "{path} {message}");
        let all: Vec<_> = answer.iter().flat_map(|frame| frame.all(":status")).collect();
        assert_eq!(all.len(), 1);
        assert!(answer.last().unwrap().kind == HEADERS);
    }
}

#[tokio::test]
async fn status_message_is_percent_encoded_in_upper_case() {
    let router = mirror(|_, text| Err(Status::aborted(text.to_owned())));
    let (_server, mut raw) = serve(router).await;
    let cases = [
        ("plain ~ text", "plain ~ text"),
        ("100%", "100%25"),
        ("a\r\nb\tc\u{7f}\0", "a%0D%0Ab%09c%7F%00"),
        ("é世🦀", "%C3%A9%E4%B8%96%F0%9F%A6%80"),
    ];
    for (stream, (text, encoded)) in (1..).step_by(2).zip(cases) {
        raw.request(stream, &head("/test.Own/Unary"), &framed(text)).await;
        let answer = raw.answer(stream).await;
        assert_trailers_only(&answer, "10");
        assert_eq!(answer[0].field("grpc-message"), Some(encoded));
    }
}

#[tokio::test]
async fn error_before_any_message_is_one_frame() {
    let (_server, _, mut raw) = echo().await;
    for (stream, path) in [(1, UNARY), (3, CLIENT), (5, BIDI), (7, "/none")] {
        raw.request(stream, &head(path), &framed("fail")).await;
        let code = if path == "/none" { "12" } else { "5" };
        assert_trailers_only(&raw.answer(stream).await, code);
    }
}

#[tokio::test]
async fn error_with_initial_metadata_is_headers_and_trailers() {
    let router = unary((), |_, mut request: Request<String>| async move {
        request.response_metadata().insert(&AsciiKey::from_static("x-initial"), 1);
        Err(Status::aborted("no"))
    });
    let (_server, mut raw) = serve(router).await;
    raw.request(1, &head("/test.Own/Unary"), &framed("")).await;
    let [headers, trailers] = &raw.answer(1).await[..] else { panic!() };
    assert_eq!((headers.ends(), headers.field("x-initial")), (false, Some("1")));
    assert_eq!(headers.field("grpc-status"), None);
    assert_eq!((trailers.ends(), trailers.field("grpc-status")), (true, Some("10")));
    assert_eq!(trailers.field("x-initial"), None);
}

#[tokio::test]
async fn headers_leave_on_request_or_with_the_first_message() {
    let go_on = Arc::new(Notify::new());
    let service = Service::builder("test.Own", &[], go_on.clone()).server_streaming(
        &OWN_SERVER,
        |go_on, request: Request<String>, mut out: Sink<String>| async move {
            if request.message == "flush" {
                out.flush_headers();
            }
            go_on.notified().await;
            out.send("first".to_string()).await?;
            go_on.notified().await;
            Ok(())
        },
    );
    let (_server, mut raw) = serve(Router::new().add(service.build())).await;
    for (stream, message) in [(1, "flush"), (3, "wait")] {
        raw.request(stream, &head("/test.Own/Server"), &framed(message)).await;
        let early = raw.settled().await;
        let early: Vec<_> = early.iter().filter(|frame| frame.stream == stream).collect();
        if message == "flush" {
            assert_eq!((early.len(), early[0].kind), (1, HEADERS));
        } else {
            assert!(early.is_empty(), "{early:?}");
        }
        go_on.notify_one();
        if message == "wait" {
            assert_eq!(raw.next_of(stream).await.kind, HEADERS);
        }
        assert_eq!(raw.next_of(stream).await.payload, framed("first"));
        go_on.notify_one();
        assert_eq!(status(&raw.answer(stream).await), "0");
    }
}

#[tokio::test]
async fn trailers_before_the_half_close_cause_no_error_reset() {
    let (_server, _, mut raw) = echo().await;
    // With no message before it, and after a message.
    raw.headers(1, &head(CLIENT), false).await;
    raw.data(1, &framed("fail"), false).await;
    assert_trailers_only(&raw.answer(1).await, "5");
    assert!(raw.next_of(1).await.is_reset(Reason::NO_ERROR));

    raw.headers(3, &head(BIDI), false).await;
    raw.data(3, &framed("a"), false).await;
    raw.data(3, &framed("fail"), false).await;
    let answer = raw.answer(3).await;
    assert_eq!((messages(&answer), status(&answer)), (vec!["a".to_string()], "5"));
    assert!(raw.next_of(3).await.is_reset(Reason::NO_ERROR));

    // An answer to a complete request is followed by no reset.
    raw.request(5, &head(UNARY), &framed("a")).await;
    raw.answer(5).await;
    assert!(raw.settled().await.iter().all(|frame| frame.kind != RST_STREAM));
}

#[tokio::test]
async fn status_reaches_a_client_with_a_small_limit() {
    use balafon::google::rpc::ErrorInfo;

    let router = mirror(|_, _| {
        let detail = ErrorInfo::new("REASON", "domain");
        Err(Status::aborted("long ".repeat(1000)).with_detail(&detail))
    });
    let server = TestServer::start_with(server(), router).await;
    let room = 512;
    let mut raw = Raw::connect_with(server.addr, &[(MAX_HEADER_LIST_SIZE, room)]).await;
    raw.request(1, &head("/test.Own/Unary"), &framed("")).await;
    let answer = raw.answer(1).await;
    assert_trailers_only(&answer, "10");
    let size = answer[0].fields.iter().map(|(name, value)| name.len() + value.len() + 32);
    assert!(size.sum::<usize>() <= room as usize);
    assert!(answer[0].field("grpc-message").unwrap().starts_with("long long"));
    assert_eq!(answer[0].field("grpc-status-details-bin"), None);
}

#[tokio::test]
async fn retry_pushback_passes_as_a_trailer() {
    static PUSHBACK: AsciiKey = AsciiKey::from_static("grpc-retry-pushback-ms");
    let router = mirror(|_, _| {
        let mut metadata = balafon::Metadata::new();
        metadata.insert(&PUSHBACK, 1500);
        Err(Status::unavailable("later").with_metadata(metadata))
    });
    let (_server, mut raw) = serve(router).await;
    raw.request(1, &head("/test.Own/Unary"), &framed("")).await;
    let answer = raw.answer(1).await;
    assert_trailers_only(&answer, "14");
    assert_eq!(answer[0].field("grpc-retry-pushback-ms"), Some("1500"));
}

#[tokio::test]
async fn previous_attempts_are_visible_to_the_handler() {
    static ATTEMPTS: AsciiKey = AsciiKey::from_static("grpc-previous-rpc-attempts");
    let router = mirror(|call, _| Ok(call.metadata().get(&ATTEMPTS).unwrap().to_owned()));
    let (_server, mut raw) = serve(router).await;
    let fields = head_with("/test.Own/Unary", &[("grpc-previous-rpc-attempts", "2")]);
    raw.request(1, &fields, &framed("")).await;
    assert_served(&raw.answer(1).await, &["2"]);
}

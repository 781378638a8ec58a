//! Clients that limit the length of header lists (SETTINGS_MAX_HEADER_LIST_SIZE), and responses
//! over that limit.

use std::future::pending;

use balafon::google::rpc::ErrorInfo;
use balafon::{
    AsciiKey, AsciiValue, BinaryKey, Call, Code, Interceptor, Metadata, Next, Outcome, Request,
    Response, Router, Rpc, Service, Sink, Status,
};

use tracing::Level;

use super::{
    Witness, assert_served, assert_trailers_only, messages, mirror, server, status, unary,
};
use crate::support::TestServer;
use crate::support::echo::{Echo, X_TRAILING};
use crate::support::log::Log;
use crate::support::peer::framed;
use crate::support::raw::{Frame, MAX_HEADER_LIST_SIZE, Raw, SETTINGS, head};

static UNARY: &str = "/test.Own/Unary";
static SERVER: Rpc<String, String> = Rpc::server_streaming("/test.Own/Server");
static X_OWN: AsciiKey = AsciiKey::from_static("x-own");
static X_OWN_BIN: BinaryKey = BinaryKey::from_static("x-own-bin");

/// The length by RFC 9113 (6.5.2).
fn size(frame: &Frame) -> usize {
    frame.fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
}

fn own(length: usize) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert(&X_OWN, AsciiValue::try_from(&*"v".repeat(length)).unwrap());
    metadata
}

async fn connect(server: &TestServer, limit: usize) -> Raw {
    Raw::connect_with(server.addr, &[(MAX_HEADER_LIST_SIZE, limit as u32)]).await
}

/// One call by a client with this limit.
async fn call(server: &TestServer, path: &str, message: &str, limit: usize) -> Vec<Frame> {
    let mut raw = connect(server, limit).await;
    raw.request(1, &head(path), &framed(message)).await;
    let answer = raw.answer(1).await;
    let fits = |frame: &Frame| size(frame) <= limit;
    assert!(answer.iter().all(fits), "over {limit} bytes: {answer:?}");
    answer
}

/// An echo with this many bytes of metadata: initial, then trailing.
fn with_metadata() -> Router {
    unary((), |_, request: Request<String>| async move {
        let (initial, trailing) = request.message.split_once(' ').unwrap();
        let mut response = Response::new(request.message.clone());
        for (metadata, length) in
            [(&mut response.metadata, initial), (&mut response.trailers, trailing)]
        {
            match length.parse().unwrap() {
                0 => {}
                length => *metadata = own(length),
            }
        }
        Ok(response)
    })
}

#[tokio::test]
async fn trailing_metadata_over_the_limit_fails_the_call() {
    let server = TestServer::start_with(server(), with_metadata()).await;
    for message in ["0 1000", "0 100000"] {
        let answer = call(&server, UNARY, message, 512).await;
        assert_trailers_only(&answer, "8");
        let text = answer[0].field("grpc-message").unwrap();
        assert!(text.contains("trailing metadata") && text.contains("512"), "{text}");
        assert_eq!(answer[0].field("x-own"), None);
    }
}

#[tokio::test]
async fn initial_metadata_over_the_limit_fails_the_call() {
    let server = TestServer::start_with(server(), with_metadata()).await;
    for message in ["1000 0", "100000 0", "1000 1000"] {
        let answer = call(&server, UNARY, message, 512).await;
        assert_trailers_only(&answer, "8");
        assert_eq!(answer[0].field("x-own"), None);
    }
}

#[tokio::test]
async fn metadata_of_exactly_the_limit_passes() {
    let server = TestServer::start_with(server(), with_metadata()).await;
    for (message, frame) in [("1000 0", 0), ("0 1000", 2)] {
        let whole = call(&server, UNARY, message, 1 << 20).await;
        assert_served(&whole, &[message]);
        let limit = size(&whole[frame]);
        let at_limit = call(&server, UNARY, message, limit).await;
        assert_served(&at_limit, &[message]);
        assert_eq!(at_limit[frame].field("x-own"), whole[frame].field("x-own"));
        assert_trailers_only(&call(&server, UNARY, message, limit - 1).await, "8");
    }
}

#[tokio::test]
async fn client_without_a_limit_gets_every_header() {
    let server = TestServer::start_with(server(), with_metadata()).await;
    let mut raw = Raw::connect(server.addr).await;
    raw.request(1, &head(UNARY), &framed("100000 200000")).await;
    let answer = raw.answer(1).await;
    assert_served(&answer, &["100000 200000"]);
    assert_eq!(answer[0].field("x-own").map(str::len), Some(100_000));
    assert_eq!(answer.last().unwrap().field("x-own").map(str::len), Some(200_000));
}

#[tokio::test]
async fn status_message_is_cut_only_over_the_limit() {
    let router = mirror(|_, text| Err(Status::aborted(text.repeat(10_000))));
    let server = TestServer::start_with(server(), router).await;
    for text in ["x", "é"] {
        let whole = call(&server, UNARY, text, 1 << 20).await;
        assert_trailers_only(&whole, "10");
        let message = whole[0].field("grpc-message").unwrap();
        let encoded = if text == "x" { 1 } else { 6 };
        assert_eq!(message.len(), 10_000 * encoded);
        let at_limit = call(&server, UNARY, text, size(&whole[0])).await;
        assert_eq!(at_limit[0].field("grpc-message"), Some(message));
        // Half of the limit stays free: above it C-core rejects headers at random.
        let cut = call(&server, UNARY, text, 8192).await;
        assert_trailers_only(&cut, "10");
        let size = size(&cut[0]);
        assert!((4000..4200).contains(&size), "{size}");
    }
}

#[tokio::test]
async fn status_of_an_error_is_kept_over_the_limit() {
    let router = unary((), |_, mut request: Request<String>| async move {
        if request.message == "initial" {
            request.response_metadata().merge(own(1000));
        }
        let detail = ErrorInfo::new("REASON", "domain");
        Err(Status::aborted("gone").with_detail(&detail).with_metadata(own(1000)))
    });
    let server = TestServer::start_with(server(), router).await;
    for (message, limit) in [("initial", 512), ("trailing", 512), ("initial", 200)] {
        let answer = call(&server, UNARY, message, limit).await;
        assert_trailers_only(&answer, "10");
        assert_eq!(answer[0].field("grpc-message"), Some("gone"));
        assert_eq!(answer[0].field("x-own"), None);
    }
}

#[tokio::test]
async fn status_is_sent_even_with_a_limit_of_zero() {
    let echo = Echo::default();
    let server = TestServer::start_with(server(), Router::new().add(echo.service())).await;
    let mut raw = connect(&server, 0).await;
    let cases = [("hello", "0"), ("fail", "5"), ("metadata", "8")];
    for (stream, (message, code)) in (1..).step_by(2).zip(cases) {
        raw.request(stream, &head("/test.Echo/Unary"), &framed(message)).await;
        assert_eq!(status(&raw.answer(stream).await), code, "{message}");
    }
}

#[tokio::test]
async fn stream_over_the_limit_ends_after_its_messages() {
    let service = Service::builder("test.Own", &[], ()).server_streaming(
        &SERVER,
        |_, _: Request<String>, mut out: Sink<String>| async move {
            out.send("first".to_string()).await?;
            out.trailers_mut().merge(own(1000));
            out.trailers_mut().insert_bin(&X_OWN_BIN, [0; 10]);
            Ok(())
        },
    );
    let server = TestServer::start_with(server(), Router::new().add(service.build())).await;
    let answer = call(&server, SERVER.path, "", 512).await;
    assert_eq!((messages(&answer), status(&answer)), (vec!["first".to_string()], "8"));
    assert_eq!(answer.last().unwrap().field("x-own-bin"), None);
}

/// Sends headers that are too long, and would then wait for ever.
fn waits() -> Service {
    Service::builder("test.Own", &[], ())
        .server_streaming(
            &SERVER,
            |_, request: Request<String>, mut out: Sink<String>| async move {
                out.metadata_mut().merge(own(1000));
                if request.message == "flush" {
                    out.flush_headers();
                } else {
                    out.send("first".to_string()).await?;
                }
                pending().await
            },
        )
        .build()
}

#[tokio::test]
async fn stream_with_headers_over_the_limit_ends_at_once() {
    let witness = Witness::default();
    let router = Router::new().intercept(witness.clone()).add(waits());
    let server = TestServer::start_with(server(), router).await;
    for message in ["flush", "send"] {
        let answer = call(&server, SERVER.path, message, 512).await;
        assert_trailers_only(&answer, "8");
        assert_eq!(witness.next().await.0, Code::ResourceExhausted);
    }
}

/// Adds metadata to the response before or after the handler.
struct Adds {
    initial: usize,
    trailing: usize,
}

impl Interceptor for Adds {
    async fn intercept(&self, mut call: Call, next: Next<'_>) -> Outcome {
        call.response_metadata().merge(own(self.initial));
        let mut outcome = next.run(call).await;
        outcome.trailers.merge(own(self.trailing));
        outcome
    }
}

#[tokio::test]
async fn metadata_of_an_interceptor_counts_too() {
    for (initial, trailing) in [(1000, 1), (1, 1000)] {
        let router = Router::new().intercept(Adds { initial, trailing });
        let router = router.add(Echo::default().service());
        let server = TestServer::start_with(server(), router).await;
        let answer = call(&server, "/test.Echo/Unary", "hello", 512).await;
        assert_eq!((status(&answer), messages(&answer).len()), ("8", 0));
        let last = answer.last().unwrap();
        assert!(last.field("grpc-message").unwrap().contains("metadata"));
    }
}

#[tokio::test]
async fn later_limit_applies_to_open_calls() {
    let echo = Echo::default();
    let server = TestServer::start_with(server(), Router::new().add(echo.service())).await;
    let mut raw = Raw::connect(server.addr).await;
    raw.headers(1, &head("/test.Echo/Unary"), false).await;
    let mut settings = MAX_HEADER_LIST_SIZE.to_be_bytes().to_vec();
    settings.extend(50_u32.to_be_bytes());
    raw.send(SETTINGS, 0, 0, &settings).await;
    raw.data(1, &framed("metadata"), true).await;
    assert_eq!(status(&raw.answer(1).await), "8");
    // The limit is raised again.
    settings[2..].copy_from_slice(&8192_u32.to_be_bytes());
    raw.send(SETTINGS, 0, 0, &settings).await;
    raw.request(3, &head("/test.Echo/Unary"), &framed("metadata")).await;
    let answer = raw.answer(3).await;
    assert_served(&answer, &["metadata"]);
    assert_eq!(answer.last().unwrap().field(X_TRAILING.as_str()), Some("2"));
}

#[tokio::test]
async fn failed_call_is_logged() {
    let (log, _guard) = Log::start(Level::WARN);
    let server = TestServer::start_with(server(), with_metadata()).await;
    call(&server, UNARY, "1 1", 512).await;
    assert_eq!(log.take(), "");
    for (message, kind) in [("0 1000", "trailing"), ("1000 0", "initial")] {
        call(&server, UNARY, message, 512).await;
        let line = log.take();
        assert!(line.contains(UNARY) && line.contains(kind) && line.contains("512"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}

#[tokio::test]
async fn failed_call_leaves_others_alone() {
    let server = TestServer::start_with(server(), with_metadata()).await;
    let mut raw = connect(&server, 512).await;
    raw.headers(1, &head(UNARY), false).await;
    for (stream, message) in [(3, "0 1000"), (5, "1000 0"), (7, "1000 1000")] {
        raw.request(stream, &head(UNARY), &framed(message)).await;
        assert_trailers_only(&raw.answer(stream).await, "8");
    }
    raw.data(1, &framed("1 1"), true).await;
    assert_served(&raw.answer(1).await, &["1 1"]);
}

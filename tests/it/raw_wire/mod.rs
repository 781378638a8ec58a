//! Rules of the wire that need a misbehaving client, frame by frame. RULES.md lists the test of
//! each rule.

mod connection;
mod endings;
mod head;
mod header_limit;
mod messages;
mod response;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use balafon::{
    Call, Code, Interceptor, Next, Outcome, Request, Response, Router, Rpc, Server, Service, Status,
};
use tokio::sync::Notify;

use crate::support::echo::Echo;
use crate::support::peer::framed;
use crate::support::raw::{DATA, END_HEADERS, END_STREAM, Frame, HEADERS, Raw, head};
use crate::support::{TestServer, patiently};

const UNARY: &str = "/test.Echo/Unary";
const SERVER: &str = "/test.Echo/Server";
const CLIENT: &str = "/test.Echo/Client";
const BIDI: &str = "/test.Echo/Bidi";

/// A server that permits the pings of [`Raw::settled`].
fn server() -> Server {
    crate::support::server().permit_pings(Duration::ZERO, true)
}

async fn echo() -> (TestServer, Echo, Raw) {
    echo_with(server(), &[]).await
}

async fn echo_with(server: Server, settings: &[(u16, u32)]) -> (TestServer, Echo, Raw) {
    let echo = Echo::default();
    let server = TestServer::start_with(server, Router::new().add(echo.service())).await;
    let raw = Raw::connect_with(server.addr, settings).await;
    (server, echo, raw)
}

async fn serve(router: Router) -> (TestServer, Raw) {
    let server = TestServer::start_with(server(), router).await;
    let raw = Raw::connect(server.addr).await;
    (server, raw)
}

static OWN_UNARY: Rpc<String, String> = Rpc::unary("/test.Own/Unary");

/// A service with one method, `/test.Own/Unary`.
fn unary<T, F, Fut>(target: T, function: F) -> Router
where
    T: Send + Sync + 'static,
    F: Fn(Arc<T>, Request<String>) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<String>, Status>> + Send + 'static,
{
    Router::new().add(Service::builder("test.Own", &[], target).unary(&OWN_UNARY, function).build())
}

/// Answers with the text that `look` makes of the call.
fn mirror(look: fn(&Call, &str) -> Result<String, Status>) -> Router {
    unary(look, |look, request: Request<String>| async move {
        Ok(Response::new(look(&request, &request.message)?))
    })
}

/// Keeps the outcome and the path of each call.
#[derive(Clone, Default)]
struct Witness {
    seen: Arc<Mutex<Vec<(Code, String)>>>,
    told: Arc<Notify>,
}

impl Interceptor for Witness {
    async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
        let path = call.path().to_owned();
        let outcome = next.run(call).await;
        self.seen.lock().unwrap().push((outcome.status.code(), path));
        self.told.notify_one();
        outcome
    }
}

impl Witness {
    /// Waits for the end of a call.
    async fn next(&self) -> (Code, String) {
        patiently(self.told.notified()).await;
        let mut seen = self.seen.lock().unwrap();
        assert_eq!(seen.len(), 1);
        seen.remove(0)
    }
}

/// The messages in the DATA frames of an answer.
fn messages(frames: &[Frame]) -> Vec<String> {
    use balafon::grpc::frame::FrameDecoder;
    use balafon::prost::Message;

    let mut decoder = FrameDecoder::new(usize::MAX);
    let data = frames.iter().filter(|frame| frame.kind == DATA);
    data.for_each(|frame| decoder.push(frame.payload.clone()));
    let mut messages = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        messages.push(String::decode(frame.payload).unwrap());
    }
    decoder.end().unwrap();
    messages
}

/// The status of an answer. There has to be exactly one, in the last frame.
fn status(frames: &[Frame]) -> &str {
    let (last, earlier) = frames.split_last().unwrap();
    assert!(earlier.iter().all(|frame| frame.all("grpc-status").is_empty()), "{frames:?}");
    assert!(earlier.iter().all(|frame| frame.all("grpc-message").is_empty()), "{frames:?}");
    let _at_most_one = last.field("grpc-message");
    last.field("grpc-status").unwrap_or_else(|| panic!("no status: {frames:?}"))
}

#[track_caller]
fn assert_trailers_only(frames: &[Frame], code: &str) {
    let [frame] = frames else { panic!("{frames:?}") };
    assert_eq!((frame.kind, frame.flags), (HEADERS, END_HEADERS | END_STREAM));
    assert_eq!(frame.field(":status"), Some("200"));
    assert_eq!(frame.field("content-type"), Some("application/grpc"));
    assert_eq!(status(frames), code);
}

#[track_caller]
fn assert_served(frames: &[Frame], expected: &[&str]) {
    assert_eq!(status(frames), "0", "{frames:?}");
    assert_eq!(messages(frames), expected);
}

/// Asserts that the connection still serves calls.
async fn assert_alive(raw: &mut Raw, stream: u32) {
    raw.request(stream, &head(UNARY), &framed("alive")).await;
    assert_served(&raw.answer(stream).await, &["alive"]);
}

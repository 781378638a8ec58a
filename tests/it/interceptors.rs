//! Interceptors see calls of every kind with their true outcome.

use std::sync::{Arc, Mutex};

use balafon::interceptors::{AccessLog, X_REQUEST_ID};
use balafon::{AsciiKey, Call, Interceptor, MessageEvent, Next, Outcome, Router, Status};
use bytes::Bytes;
use h2::Reason;

use crate::support::TestServer;
use crate::support::echo::Echo;
use crate::support::peer::{Peer, Reply, framed, request};

/// Records each call and its outcome.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Interceptor for Journal {
    async fn intercept(&self, mut call: Call, next: Next<'_>) -> Outcome {
        let (path, counts) = (call.path().to_owned(), call.handle());
        let bytes = Arc::new(Mutex::new((0, 0)));
        let seen = bytes.clone();
        call.observe_messages(move |event| match event {
            MessageEvent::Received(message) => seen.lock().unwrap().0 += message.len(),
            MessageEvent::Sent(message) => seen.lock().unwrap().1 += message.len(),
            _ => {}
        });
        let outcome = next.run(call).await;
        let line = format!(
            "{path} {} {}/{} {:?}",
            outcome.status.code(),
            counts.received(),
            counts.sent(),
            *bytes.lock().unwrap(),
        );
        self.0.lock().unwrap().push(line);
        outcome
    }
}

impl Journal {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

async fn serve(router: Router) -> (TestServer, Echo, Peer) {
    let echo = Echo::default();
    let server = TestServer::start(router.add(echo.service())).await;
    let peer = Peer::connect(server.addr).await;
    (server, echo, peer)
}

#[tokio::test]
async fn outcome_is_seen_for_every_kind_of_rpc() {
    let journal = Journal::default();
    let (_server, _, mut peer) = serve(Router::new().intercept(journal.clone())).await;
    peer.unary("/test.Echo/Unary", "one").await;
    peer.unary("/test.Echo/Server", "count 3").await;
    peer.unary("/test.Echo/Client", "fail").await;
    peer.unary("/test.Echo/Bidi", "panic").await;
    peer.unary("/test.Missing/Unary", "one").await;
    let expected = [
        "/test.Echo/Unary OK 1/1 (5, 5)",
        "/test.Echo/Server OK 1/3 (9, 9)",
        "/test.Echo/Client NOT_FOUND 1/0 (6, 0)",
        "/test.Echo/Bidi UNKNOWN 1/0 (7, 0)",
        "/test.Missing/Unary UNIMPLEMENTED 0/0 (0, 0)",
    ];
    assert_eq!(journal.take(), expected);
}

#[tokio::test]
async fn outcome_is_seen_for_calls_ended_from_outside() {
    let journal = Journal::default();
    let (_server, echo, mut peer) = serve(Router::new().intercept(journal.clone())).await;

    let head = request("/test.Echo/Unary").header("grpc-timeout", "20m");
    peer.call(head, framed("wait")).await;
    assert_eq!(journal.take(), ["/test.Echo/Unary DEADLINE_EXCEEDED 1/0 (6, 0)"]);

    let mut call = peer.open("/test.Echo/Bidi").await;
    call.message("wait", false);
    echo.until_running(1).await;
    call.send.send_reset(Reason::CANCEL);
    echo.until_running(0).await;
    assert_eq!(journal.take(), ["/test.Echo/Bidi CANCELLED 1/0 (6, 0)"]);

    let mut call = peer.open("/test.Echo/Bidi").await;
    call.message("wait", false);
    echo.until_running(1).await;
    peer.vanish();
    echo.until_running(0).await;
    assert_eq!(journal.take(), ["/test.Echo/Bidi CANCELLED 1/0 (6, 0)"]);
}

static X_LAYER: AsciiKey = AsciiKey::from_static("x-layer");

/// Adds its name to the response metadata before and after the handler.
struct Layer(u32);

impl Interceptor for Layer {
    async fn intercept(&self, mut call: Call, next: Next<'_>) -> Outcome {
        call.response_metadata().append(&X_LAYER, self.0);
        let mut outcome = next.run(call).await;
        outcome.trailers.append(&X_LAYER, self.0);
        outcome
    }
}

fn layers(headers: &http::HeaderMap) -> Vec<&str> {
    headers.get_all("x-layer").iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn first_is_the_outermost() {
    let router = Router::new().intercept(Layer(1)).intercept(Layer(2)).intercept(Layer(3));
    let (_server, _, mut peer) = serve(router).await;
    let reply = peer.unary("/test.Echo/Unary", "hello").await;
    assert_eq!(layers(&reply.headers), ["1", "2", "3"]);
    assert_eq!(layers(reply.trailers.as_ref().unwrap()), ["3", "2", "1"]);
}

/// Refuses every call, replaces every outcome, or never reaches the handler.
enum Odd {
    Refuses,
    Overrules,
    Hangs,
    Panics,
}

impl Interceptor for Odd {
    async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
        match self {
            Self::Refuses => Status::permission_denied("no").into(),
            Self::Overrules => {
                next.run(call).await;
                Status::data_loss("overruled").into()
            }
            Self::Hangs => std::future::pending().await,
            Self::Panics => panic!("as asked"),
        }
    }
}

#[tokio::test]
async fn interceptor_may_answer_by_itself() {
    let (_server, _, mut peer) = serve(Router::new().intercept(Odd::Refuses)).await;
    let reply = peer.unary("/test.Echo/Unary", "hello").await;
    assert!(reply.is_trailers_only());
    assert_eq!(reply.grpc_status(), "7");
}

#[tokio::test]
async fn interceptor_may_replace_the_handlers_outcome() {
    let (_server, _, mut peer) = serve(Router::new().intercept(Odd::Overrules)).await;
    let reply = peer.unary("/test.Echo/Unary", "hello").await;
    assert_eq!((reply.grpc_status(), reply.messages().len()), ("15", 0));
}

#[tokio::test]
async fn deadline_covers_interceptors_and_outer_ones_see_it() {
    let journal = Journal::default();
    let router = Router::new().intercept(journal.clone()).intercept(Odd::Hangs);
    let (_server, _, mut peer) = serve(router).await;
    let head = request("/test.Echo/Unary").header("grpc-timeout", "20m");
    assert_eq!(peer.call(head, framed("hello")).await.grpc_status(), "4");
    assert_eq!(journal.take(), ["/test.Echo/Unary DEADLINE_EXCEEDED 0/0 (0, 0)"]);
}

#[tokio::test]
async fn panic_is_caught_and_outer_interceptors_see_it() {
    let journal = Journal::default();
    let router = Router::new().intercept(journal.clone()).intercept(Odd::Panics);
    let (_server, _, mut peer) = serve(router).await;
    assert_eq!(peer.unary("/test.Echo/Unary", "hello").await.grpc_status(), "2");
    assert_eq!(journal.take(), ["/test.Echo/Unary UNKNOWN 0/0 (0, 0)"]);
}

#[tokio::test]
async fn fallback_answers_unknown_paths() {
    let router = Router::new().fallback(|call: Call| async move {
        Status::unavailable(format!("{} has moved", call.path())).into()
    });
    let (_server, _, mut peer) = serve(router).await;
    let reply = peer.unary("/old.Service/Method", "hello").await;
    assert_eq!(reply.trailer("grpc-message"), Some("/old.Service/Method has moved"));
    assert_eq!(peer.unary("/test.Echo/Unary", "hello").await.grpc_status(), "0");
}

#[tokio::test]
async fn access_log_echoes_or_makes_the_correlation_id() {
    fn id(reply: &Reply) -> &str {
        reply.headers[X_REQUEST_ID.as_str()].to_str().unwrap()
    }
    let (_server, _, mut peer) = serve(Router::new().intercept(AccessLog)).await;
    let head = request("/test.Echo/Unary").header("x-request-id", "from-the-client");
    assert_eq!(id(&peer.call(head, framed("a")).await), "from-the-client");
    let made = [peer.unary("/test.Echo/Unary", "a").await, peer.unary("/none", "a").await];
    assert!(made.iter().all(|reply| id(reply).len() == 36));
    assert_ne!(id(&made[0]), id(&made[1]));
    let long = "x".repeat(1000);
    let head = request("/test.Echo/Unary").header("x-request-id", &long);
    assert_ne!(id(&peer.call(head, Bytes::new()).await), long);
}

//! Conduct of handlers, clients and callers that must not harm a call's end or other calls.

use std::future::{Future, Ready, pending};
use std::pin::{Pin, pin};
use std::sync::{Arc, mpsc as blocking};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use balafon::grpc::frame::FrameDecoder;
use balafon::{
    AsciiKey, Call, CallOptions, Code, Interceptor, Metadata, Next, Outcome, Request, Response,
    Router, Rpc, Server, Service, Sink, Status, Streaming,
};
use bytes::Bytes;
use futures_util::StreamExt;
use h2::{Reason, RecvStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::consume_budget;
use tokio::time::Instant;

use crate::support::echo::Echo;
use crate::support::peer::{Peer, framed, request};
use crate::support::raw::Raw;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, TestServer, patiently, serve_pipe};

static UNARY: Rpc<String, String> = Rpc::unary("/test.Odd/Unary");
static SERVER: Rpc<String, String> = Rpc::server_streaming("/test.Odd/Server");
static BIDI: Rpc<String, String> = Rpc::bidi_streaming("/test.Odd/Bidi");

static X_A: AsciiKey = AsciiKey::from_static("x-a");
static X_B: AsciiKey = AsciiKey::from_static("x-b");

/// A service with one server-streaming method.
fn streams<T, F, Fut>(state: T, function: F) -> Service
where
    T: Send + Sync + 'static,
    F: Fn(Arc<T>, Request<String>, Sink<String>) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Status>> + Send + 'static,
{
    Service::builder("test.Odd", &[], state).server_streaming(&SERVER, function).build()
}

/// A service with one unary method.
fn answers<T, F, Fut>(state: T, function: F) -> Service
where
    T: Send + Sync + 'static,
    F: Fn(Arc<T>, Request<String>) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<String>, Status>> + Send + 'static,
{
    Service::builder("test.Odd", &[], state).unary(&UNARY, function).build()
}

// Handlers that use up tokio's cooperative budget.

/// After its first message it never waits, except for its next turn.
fn busy() -> Service {
    streams((), |_, _, mut out| async move {
        out.send("first".to_owned()).await?;
        loop {
            consume_budget().await;
        }
    })
}

/// A running call of it.
async fn busy_call(peer: &mut Peer) -> RecvStream {
    let mut call = peer.open("/test.Odd/Server").await;
    call.message("go", true);
    let (_, mut recv) = call.split().await.unwrap();
    assert_eq!(patiently(recv.data()).await.unwrap().unwrap(), framed("first"));
    recv
}

#[tokio::test]
async fn busy_handler_does_not_escape_its_deadline() {
    let server = TestServer::start(Router::new().add(busy())).await;
    let mut peer = Peer::connect(server.addr).await;
    let head = request("/test.Odd/Server").header("grpc-timeout", "50m");
    assert_eq!(peer.call(head, framed("go")).await.grpc_status(), "4");
}

#[tokio::test]
async fn busy_handler_does_not_escape_the_drain_timeout() {
    for workers in [0, 1] {
        let settings =
            crate::support::server().workers(workers).drain_timeout(Duration::from_millis(50));
        let mut server = TestServer::start_with(settings, Router::new().add(busy())).await;
        let mut peer = Peer::connect(server.addr).await;
        let mut recv = busy_call(&mut peer).await;
        server.shut_down();
        let trailers = patiently(recv.trailers()).await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "14");
        server.served().await;
    }
}

#[tokio::test]
async fn busy_handler_does_not_delay_other_answers() {
    let router = Router::new().add(busy()).add(Echo::default().service());
    let server = TestServer::start(router).await;
    let mut peer = Peer::connect(server.addr).await;
    let _busy = busy_call(&mut peer).await;
    for _ in 0..10 {
        assert_eq!(peer.unary("/test.Echo/Unary", "hello").await.messages(), ["hello"]);
    }
}

/// There is no budget when a runtime shuts down, and each call must still have an outcome.
#[test]
fn busy_handler_ends_with_the_runtime() {
    let (witness, mut seen) = Witness::new();
    let router = Router::new().intercept(witness).add(busy());
    let (done, ended) = blocking::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = TestServer::start(router).await;
            let mut peer = Peer::connect(server.addr).await;
            let _busy = busy_call(&mut peer).await;
        });
        drop(runtime);
        let _ = done.send(());
    });
    ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!(seen.now(), Some(Code::Cancelled));
}

// Metadata.

fn values<'a>(headers: &'a http::HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

/// The server has a thread of its own, so that a deadlock fails the test rather than hangs it.
#[tokio::test]
async fn metadata_may_change_beside_other_access_to_the_call() {
    let service = streams((), |_, mut request, mut out: Sink<String>| async move {
        let counts = request.handle();
        let mut outer = request.response_metadata();
        outer.append(&X_A, 1);
        out.metadata_mut().append(&X_A, 2);
        out.metadata_mut().append(&X_B, 3);
        out.flush_headers();
        drop(outer);
        out.send("x".to_owned()).await?;
        out.trailers_mut().insert(&X_A, counts.sent());
        out.trailers_mut().append(&X_B, request.handle().received());
        Ok(())
    });
    let server =
        TestServer::start_with(crate::support::server().workers(1), Router::new().add(service))
            .await;
    let mut peer = Peer::connect(server.addr).await;
    let reply = peer.unary("/test.Odd/Server", "go").await;
    assert_eq!(values(&reply.headers, "x-a"), ["1", "2"]);
    assert_eq!(values(&reply.headers, "x-b"), ["3"]);
    assert_eq!((reply.trailer("x-a"), reply.trailer("x-b")), (Some("1"), Some("1")));
    assert_eq!(reply.grpc_status(), "0");
}

#[tokio::test]
async fn protocol_headers_cannot_be_set_by_applications() {
    fn forbidden() -> Metadata {
        let mut metadata = Metadata::new();
        for name in ["content-length", "host", "connection", "te", "grpc-status", "grpc-foo"] {
            metadata.insert(&AsciiKey::try_from(name).unwrap(), 7);
        }
        metadata.insert(&X_A, 7);
        metadata
    }
    let service = streams((), |_, request: Request<String>, mut out| async move {
        if request.message == "trailers only" {
            return Err(Status::not_found("gone").with_metadata(forbidden()));
        }
        out.metadata_mut().merge(forbidden());
        out.trailers_mut().merge(forbidden());
        out.send("x".to_owned()).await
    });
    let server = TestServer::start(Router::new().add(service)).await;
    let mut peer = Peer::connect(server.addr).await;
    for (message, status) in [("all", "0"), ("trailers only", "5")] {
        let reply = peer.unary("/test.Odd/Server", message).await;
        assert_eq!(reply.grpc_status(), status);
        for headers in [Some(&reply.headers), reply.trailers.as_ref()].into_iter().flatten() {
            assert_eq!(values(headers, "x-a"), ["7"]);
            for name in ["content-length", "host", "connection", "te", "grpc-foo"] {
                assert_eq!(headers.get(name), None);
            }
        }
    }
}

// Requests.

#[tokio::test]
async fn request_stream_ends_after_its_first_error() {
    let (requests, stream) = balafon::testing::requests::<String>();
    requests.send(&"one".to_owned());
    drop(requests);
    let all: Vec<_> =
        stream.take(10).map(|item| item.map_err(|error| error.code())).collect().await;
    assert_eq!(all, [Ok("one".to_owned()), Err(Code::Cancelled)]);

    let (requests, mut stream) = balafon::testing::requests::<String>();
    drop(requests);
    for _ in 0..3 {
        assert_eq!(stream.message().await.unwrap_err().code(), Code::Cancelled);
    }
}

#[tokio::test]
async fn request_is_not_read_after_invalid_protobuf() {
    let (sender, mut seen) = mpsc::unbounded_channel();
    let service = Service::builder("test.Odd", &[], sender)
        .bidi_streaming(
            &BIDI,
            |seen, mut request: Request<Streaming<String>>, _: Sink<String>| async move {
                for _ in 0..4 {
                    let message = request.message.message().await;
                    seen.send(message.map_err(|error| error.code())).unwrap();
                }
                Ok(())
            },
        )
        .build();
    let server = TestServer::start(Router::new().add(service)).await;
    let mut peer = Peer::connect(server.addr).await;
    let broken = Bytes::from_static(&[0, 0, 0, 0, 1, 0xff]);
    let body = [framed("before"), broken, framed("after")].concat();
    peer.call(request("/test.Odd/Bidi"), body.into()).await;
    let mut next = async || patiently(seen.recv()).await.unwrap();
    assert_eq!(next().await, Ok(Some("before".to_owned())));
    for _ in 0..3 {
        assert_eq!(next().await, Err(Code::Internal));
    }
}

/// An owner of memory that reports when it is dropped.
struct Tracked {
    _alive: Arc<()>,
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &[0]
    }
}

#[test]
fn one_byte_frames_cost_one_byte_each() {
    let alive = Arc::new(());
    let mut decoder = FrameDecoder::new(usize::MAX);
    for _ in 0..1_000_000 {
        // In practice each would be a part of a read buffer of several KiB.
        decoder.push(Bytes::from_owner(Tracked { _alive: alive.clone() }));
    }
    assert!(Arc::strong_count(&alive) < 10, "{} chunks are kept", Arc::strong_count(&alive));
    assert_eq!(decoder.unread(), 1_000_000);
    // They are 200,000 empty messages.
    let mut messages = 0;
    while decoder.next_frame().unwrap().is_some() {
        messages += 1;
    }
    assert_eq!((messages, decoder.unread()), (200_000, 0));
}

#[tokio::test]
async fn tiny_frames_do_not_harm_an_unread_call() {
    let echo = Echo::default();
    let server = TestServer::start(Router::new().add(echo.service())).await;
    let mut peer = Peer::connect(server.addr).await;
    let mut call = peer.open("/test.Echo/Client").await;
    call.message("wait", false);
    echo.until_running(1).await;
    for _ in 0..20_000 {
        call.send.send_data(Bytes::from_static(&[0]), false).unwrap();
    }
    assert_eq!(peer.unary("/test.Echo/Unary", "alive").await.messages(), ["alive"]);
    echo.until_running(1).await;
}

#[tokio::test]
async fn rejected_requests_reach_the_interceptors() {
    let (witness, mut seen) = Witness::new();
    let router = Router::new().intercept(witness).add(Echo::default().service());
    let server = TestServer::start(router).await;
    let mut peer = Peer::connect(server.addr).await;
    for (name, value, code) in [
        ("grpc-timeout", "1x", Code::Internal),
        ("grpc-timeout", "", Code::Internal),
        ("grpc-encoding", "snappy", Code::Unimplemented),
        ("grpc-timeout", "0S", Code::DeadlineExceeded),
    ] {
        let head = request("/test.Echo/Unary").header(name, value);
        let reply = peer.call(head, framed("a")).await;
        assert!(reply.is_trailers_only());
        assert_eq!(reply.grpc_status(), (code as i32).to_string(), "{name}: {value}");
        assert_eq!(seen.code().await, code, "{name}: {value}");
    }
    assert_eq!(seen.now(), None);
}

// Ends.

/// Polls once.
async fn once<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// The test polls both sides by hand, so that the server reads the reset in the same turn in which
/// the handler writes.
#[tokio::test]
async fn reset_at_the_first_message_is_an_outcome() {
    let service = streams(Notify::new(), |go, request, mut out| async move {
        if request.message == "go" {
            go.notify_one();
            return Ok(());
        }
        go.notified().await;
        out.send("x".to_owned()).await?;
        pending().await
    });
    let (witness, mut seen) = Witness::new();
    let router = Arc::new(Router::new().intercept(witness).add(service));
    let (io, served) = tokio::io::duplex(1 << 16);
    let server = crate::support::server();
    let mut serving = pin!(server.serve_connection(served, router));
    let mut handshake = pin!(h2::client::handshake(io));
    let (mut h2, connection) = loop {
        let _ = once(serving.as_mut()).await;
        if let Poll::Ready(ready) = once(handshake.as_mut()).await {
            break ready.unwrap();
        }
    };
    let mut connection = pin!(connection);
    macro_rules! exchange {
        () => {
            for _ in 0..5 {
                let _ = once(connection.as_mut()).await;
                let _ = once(serving.as_mut()).await;
            }
        };
    }
    let mut open = |message: &str| {
        let head = request("/test.Odd/Server").body(()).unwrap();
        let (response, mut send) = h2.send_request(head, false).unwrap();
        send.send_data(framed(message), true).unwrap();
        (response, send)
    };
    exchange!();
    let (_response, mut send) = open("wait");
    exchange!();
    assert_eq!(seen.now(), None);
    // The reset, and a call that lets the first one write, arrive together.
    send.send_reset(Reason::CANCEL);
    let _other = open("go");
    exchange!();
    let mut codes = [seen.code().await, seen.code().await];
    codes.sort_by_key(|code| *code as i32);
    assert_eq!(codes, [Code::Ok, Code::Cancelled]);
    assert_eq!(seen.now(), None);
}

#[tokio::test]
async fn dropped_connection_ends_its_calls_for_every_observer() {
    let (sender, mut ends) = mpsc::unbounded_channel();
    let service = streams(sender, |ends, request, mut out: Sink<String>| async move {
        let cancellation = request.handle();
        let (watcher, writer) = (ends.clone(), ends.clone());
        tokio::spawn(async move { watcher.send(cancellation.ended().await) });
        tokio::spawn(async move {
            loop {
                if let Err(status) = out.send("x".repeat(1000)).await {
                    return writer.send(status);
                }
            }
        });
        ends.send(Status::ok()).unwrap();
        pending().await
    });
    let (witness, mut seen) = Witness::new();
    let router = Arc::new(Router::new().intercept(witness).add(service));
    let (io, serving) = serve_pipe(&crate::support::server(), &router);
    let mut peer = Peer::over(io, &h2::client::Builder::new()).await;
    let mut call = peer.open("/test.Odd/Server").await;
    call.message("go", true);
    assert!(patiently(ends.recv()).await.unwrap().is_ok());
    serving.abort();
    for _ in 0..2 {
        assert_eq!(patiently(ends.recv()).await.unwrap().code(), Code::Cancelled);
    }
    assert_eq!(seen.code().await, Code::Cancelled);
    assert_eq!(seen.now(), None);
}

#[tokio::test]
async fn writing_task_ends_with_its_call() {
    let (sender, mut ends) = mpsc::unbounded_channel();
    // The task waits for the window; the handler has returned and waits until its output is
    // written.
    let service = streams(sender, |ends, _, mut out: Sink<String>| async move {
        let (full, filled) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let mut full = Some(full);
            loop {
                let mut sent = pin!(out.send("x".repeat(200_000)));
                let first = once(sent.as_mut()).await;
                if first.is_pending()
                    && let Some(full) = full.take()
                {
                    let _ = full.send(());
                }
                let result = match first {
                    Poll::Ready(result) => result,
                    Poll::Pending => sent.await,
                };
                if let Err(status) = result {
                    return ends.send(status);
                }
            }
        });
        let _ = filled.await;
        Ok(())
    });
    let (witness, mut seen) = Witness::new();
    let server = TestServer::start(Router::new().intercept(witness).add(service)).await;
    let mut peer = Peer::connect(server.addr).await;
    let head = request("/test.Odd/Server").header("grpc-timeout", "100m");
    let mut call = peer.open_with(head).await;
    call.message("go", true);
    let (_send, _unread) = call.split().await.unwrap();
    assert_eq!(patiently(ends.recv()).await.unwrap().code(), Code::DeadlineExceeded);
    assert_eq!(seen.code().await, Code::DeadlineExceeded);
}

struct PanicsAtOnce;

impl Interceptor for PanicsAtOnce {
    #[allow(clippy::manual_async_fn)] // An `async fn` would panic in its first poll.
    fn intercept(&self, call: Call, _: Next<'_>) -> impl Future<Output = Outcome> + Send {
        assert!(call.path().is_empty(), "as asked");
        async { Outcome::ok() }
    }
}

#[tokio::test]
async fn panics_outside_futures_are_caught() {
    let fallback = |call: Call| -> Ready<Outcome> { panic!("no {}", call.path()) };
    let (witness, mut seen) = Witness::new();
    let outer = || Router::new().intercept(witness.clone());
    for router in [outer().fallback(fallback), outer().intercept(PanicsAtOnce)] {
        let server = TestServer::start(router).await;
        let mut peer = Peer::connect(server.addr).await;
        for _ in 0..2 {
            assert_eq!(peer.unary("/test.Missing/Unary", "a").await.grpc_status(), "2");
            assert_eq!(seen.code().await, Code::Unknown);
        }
    }
    // Without interceptors there is one call boundary fewer.
    let server = TestServer::start(Router::new().fallback(fallback)).await;
    let mut peer = Peer::connect(server.addr).await;
    assert_eq!(peer.unary("/test.Missing/Unary", "a").await.grpc_status(), "2");
}

#[tokio::test]
async fn cancelled_waits_for_cancellation_leave_nothing() {
    struct Count;
    impl Wake for Count {
        fn wake(self: Arc<Self>) {}
    }
    let cancellation = Request::new(()).handle();
    let count = Arc::new(Count);
    let waker = Waker::from(count.clone());
    for _ in 0..1000 {
        let mut waiting = pin!(cancellation.ended());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    drop(waker);
    assert_eq!(Arc::strong_count(&count), 1);
}

#[tokio::test]
async fn buffered_output_is_flushed() {
    let (client, io) = tokio::io::duplex(1 << 16);
    let router = Arc::new(Router::new().add(Echo::default().service()));
    tokio::spawn(async move {
        crate::support::server().serve_connection(tokio::io::BufStream::new(io), router).await;
    });
    let mut peer = Peer::over(client, &h2::client::Builder::new()).await;
    assert_eq!(peer.unary("/test.Echo/Unary", "hello").await.messages(), ["hello"]);
}

// Shutdown.

#[tokio::test]
async fn shutdown_does_not_wait_for_blocking_work() {
    let (sender, mut started) = mpsc::unbounded_channel();
    let service = answers(sender, |started, _| async move {
        let blocked = tokio::task::spawn_blocking(move || {
            let (release, wait) = blocking::channel::<()>();
            started.send(release).unwrap();
            let _ = wait.recv_timeout(PATIENCE);
        });
        blocked.await.unwrap();
        Ok(Response::new(String::new()))
    });
    let settings = crate::support::server().workers(1).drain_timeout(Duration::from_millis(20));
    let mut server = TestServer::start_with(settings, Router::new().add(service)).await;
    let mut peer = Peer::connect(server.addr).await;
    let mut call = peer.open("/test.Odd/Unary").await;
    call.message("go", true);
    let release = patiently(started.recv()).await.unwrap();
    server.shut_down();
    assert_eq!(call.reply().await.unwrap().grpc_status(), "14");
    let start = std::time::Instant::now();
    server.served().await;
    assert!(start.elapsed() < PATIENCE / 2);
    drop(release);
}

async fn running_to_completion(settings: Server) -> (TestServer, Echo) {
    let echo = Echo::default();
    let options = CallOptions::new().run_to_completion(true);
    let router = Router::new().add(echo.service()).configure("test.Echo/Unary", options);
    let server = TestServer::start_with(settings, router).await;
    let mut peer = Peer::connect(server.addr).await;
    let mut call = peer.open("/test.Echo/Unary").await;
    call.message("until told", true);
    echo.until_running(1).await;
    // The client leaves; its work continues.
    peer.vanish();
    (server, echo)
}

#[tokio::test]
async fn shutdown_waits_for_handlers_that_run_to_completion() {
    for workers in [0, 1] {
        let (mut server, echo) =
            running_to_completion(crate::support::server().workers(workers)).await;
        server.shut_down();
        let mut served = pin!(server.served());
        let early = tokio::time::timeout(Duration::from_millis(100), served.as_mut()).await;
        assert!(early.is_err());
        echo.tell();
        served.await;
        assert_eq!(echo.running(), 0);
    }
}

#[tokio::test]
async fn shutdown_is_bounded_for_handlers_that_never_complete() {
    let timeout = Duration::from_secs(5);
    let (mut server, echo) =
        running_to_completion(crate::support::server().drain_timeout(timeout)).await;
    // From here on only timers are left.
    tokio::time::pause();
    let start = Instant::now();
    server.shut_down();
    server.served().await;
    let waited = start.elapsed();
    assert!(waited >= timeout && waited < timeout + Duration::from_secs(4), "{waited:?}");
    assert_eq!(echo.running(), 1);
}

#[tokio::test]
async fn drain_does_not_wait_for_a_silent_client() {
    let mut server = TestServer::start(Router::new()).await;
    let _silent = Raw::connect(server.addr).await;
    tokio::time::pause();
    let start = Instant::now();
    server.shut_down();
    server.served().await;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test]
async fn drain_timeout_may_be_for_ever() {
    let echo = Echo::default();
    let settings = crate::support::server().drain_timeout(Duration::MAX);
    let mut server = TestServer::start_with(settings, Router::new().add(echo.service())).await;
    let mut peer = Peer::connect(server.addr).await;
    let mut call = peer.open("/test.Echo/Unary").await;
    call.message("until told", true);
    echo.until_running(1).await;
    server.shut_down();
    echo.tell();
    assert_eq!(call.reply().await.unwrap().grpc_status(), "0");
    server.served().await;
}

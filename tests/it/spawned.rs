//! Spawned handlers: they compute beside their connection, and behave like all other calls
//! otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, available_parallelism};
use std::time::Duration;

use balafon::{CallOptions, Code, Response, Router, Rpc, Server, Service, Status};
use h2::Reason;
use tokio::sync::watch;

use crate::support::echo::Echo;
use crate::support::peer::{Peer, request};
use crate::support::witness::{Seen, Witness};
use crate::support::{TestServer, patiently};

static COMPUTE: Rpc<String, String> = Rpc::unary("/test.Busy/Compute");
static PLACE: Rpc<String, String> = Rpc::unary("/test.Busy/Place");

const SPAWN: CallOptions = CallOptions::new().spawn(true);

/// A service that computes until the test stops it, and never awaits.
#[derive(Clone, Default)]
struct Busy(Arc<State>);

#[derive(Default)]
struct State {
    computing: watch::Sender<usize>,
    enough: AtomicBool,
}

impl Busy {
    fn service(&self) -> Service {
        Service::builder("test.Busy", &[], self.clone())
            .unary(&COMPUTE, |busy, _| async move {
                busy.0.computing.send_modify(|computing| *computing += 1);
                while !busy.0.enough.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                busy.0.computing.send_modify(|computing| *computing -= 1);
                Ok(Response::new("computed".to_owned()))
            })
            .unary(&PLACE, |_, _| async move {
                let name = thread::current().name().unwrap_or_default().to_owned();
                Ok::<_, Status>(Response::new(name))
            })
            .build()
    }

    async fn until_computing(&self, count: usize) {
        let mut computing = self.0.computing.subscribe();
        patiently(computing.wait_for(|computing| *computing == count)).await.unwrap();
    }

    fn computing(&self) -> usize {
        *self.0.computing.borrow()
    }

    fn stop(&self) {
        self.0.enough.store(true, Ordering::SeqCst);
    }
}

/// However a test ends, no thread goes on computing.
impl Drop for Busy {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Fixture {
    busy: Busy,
    echo: Echo,
    server: TestServer,
    peer: Peer,
    seen: Seen,
}

/// All calls are spawned except `test.Echo/Unary`.
async fn start(server: Server) -> Fixture {
    let (busy, echo) = (Busy::default(), Echo::default());
    let (witness, seen) = Witness::new();
    let router = Router::new()
        .intercept(witness)
        .add(busy.service())
        .add(echo.service())
        .configure("test.Echo/Unary", CallOptions::new().spawn(false));
    let server = TestServer::start_with(server.calls(CallOptions::new().spawn(true)), router).await;
    let peer = Peer::connect(server.addr).await;
    Fixture { busy, echo, server, peer, seen }
}

/// Both places of connections: the caller's runtime, and a worker.
const WORKERS: [usize; 2] = [0, 1];

#[tokio::test]
async fn handlers_of_one_connection_run_in_parallel() {
    if available_parallelism().unwrap().get() < 2 {
        return; // A runtime with a thread per core has one.
    }
    for workers in WORKERS {
        let Fixture { busy, mut peer, server: _server, .. } =
            start(crate::support::server().workers(workers)).await;
        let mut calls = Vec::new();
        for _ in 0..2 {
            let mut call = peer.open("/test.Busy/Compute").await;
            call.message("", true);
            calls.push(call);
        }
        busy.until_computing(2).await;
        assert_eq!(peer.unary("/test.Echo/Unary", "hello").await.messages(), ["hello"]);
        busy.stop();
        for call in calls {
            assert_eq!(call.reply().await.unwrap().messages(), ["computed"]);
        }
    }
}

#[tokio::test]
async fn deadline_is_answered_while_the_handler_computes() {
    for workers in WORKERS {
        let Fixture { busy, mut peer, mut seen, server: _server, .. } =
            start(crate::support::server().workers(workers)).await;
        let head = request("/test.Busy/Compute").header("grpc-timeout", "100m");
        let mut call = peer.open_with(head).await;
        call.message("", true);
        busy.until_computing(1).await;
        assert_eq!(call.reply().await.unwrap().grpc_status(), "4");
        assert_eq!(seen.code().await, Code::DeadlineExceeded);
        assert_eq!(busy.computing(), 1);
        busy.stop();
        busy.until_computing(0).await;
        assert_eq!(seen.now(), None);
    }
}

#[tokio::test]
async fn waiting_handler_is_dropped_with_its_call() {
    for workers in WORKERS {
        let Fixture { echo, mut peer, mut seen, server: _server, .. } =
            start(crate::support::server().workers(workers)).await;
        let mut call = peer.open("/test.Echo/Bidi").await;
        call.message("wait", false);
        echo.until_running(1).await;
        call.send.send_reset(Reason::CANCEL);
        assert_eq!(seen.code().await, Code::Cancelled);
        echo.until_running(0).await;

        let mut call = peer.open("/test.Echo/Client").await;
        call.message("wait", false);
        echo.until_running(1).await;
        peer.vanish();
        assert_eq!(seen.code().await, Code::Cancelled);
        echo.until_running(0).await;
    }
}

#[tokio::test]
async fn panicking_handler_is_unknown() {
    for workers in WORKERS {
        let Fixture { mut peer, mut seen, server: _server, .. } =
            start(crate::support::server().workers(workers)).await;
        assert_eq!(peer.unary("/test.Echo/Client", "panic").await.grpc_status(), "2");
        assert_eq!(seen.code().await, Code::Unknown);
        assert_eq!(peer.unary("/test.Echo/Client", "hello").await.messages(), ["hello"]);
    }
}

#[tokio::test]
async fn handler_streams_like_any_other() {
    for workers in WORKERS {
        let Fixture { echo, mut peer, server: _server, .. } =
            start(crate::support::server().workers(workers)).await;
        let reply = peer.unary("/test.Echo/Server", "count 10000").await;
        let expected: Vec<_> = (0..10_000).map(|number| u64::to_string(&number)).collect();
        assert_eq!(reply.messages(), expected);

        let mut call = peer.open("/test.Echo/Server").await;
        call.message("flood", true);
        let (send, mut recv) = call.split().await.unwrap();
        assert!(patiently(recv.data()).await.unwrap().is_ok());
        drop((send, recv));
        echo.until_running(0).await;
    }
}

#[tokio::test]
async fn drain_waits_for_handlers_until_its_timeout() {
    for workers in WORKERS {
        let settings = crate::support::server().workers(workers);
        let Fixture { echo, mut server, mut peer, .. } = start(settings).await;
        let mut call = peer.open("/test.Echo/Client").await;
        call.message("before", false);
        echo.until_running(1).await;
        server.shut_down();
        call.message("after", true);
        assert_eq!(call.reply().await.unwrap().messages(), ["before after"]);
        server.served().await;

        let settings =
            crate::support::server().workers(workers).drain_timeout(Duration::from_millis(50));
        let Fixture { echo, mut server, mut peer, mut seen, .. } = start(settings).await;
        let mut call = peer.open("/test.Echo/Client").await;
        call.message("wait", false);
        echo.until_running(1).await;
        server.shut_down();
        assert_eq!(call.reply().await.unwrap().grpc_status(), "14");
        assert_eq!(seen.code().await, Code::Unavailable);
        server.served().await;
        assert_eq!(echo.running(), 0);
    }
}

#[tokio::test]
async fn drain_does_not_wait_for_an_endless_handler() {
    for workers in WORKERS {
        let settings =
            crate::support::server().workers(workers).drain_timeout(Duration::from_millis(50));
        let Fixture { busy, mut server, mut peer, .. } = start(settings).await;
        let mut call = peer.open("/test.Busy/Compute").await;
        call.message("", true);
        busy.until_computing(1).await;
        server.shut_down();
        assert_eq!(call.reply().await.unwrap().grpc_status(), "14");
        server.served().await;
        assert_eq!(busy.computing(), 1);
    }
}

#[tokio::test]
async fn option_of_service_and_server_applies_to_methods() {
    const STAY: CallOptions = CallOptions::new().spawn(false);
    let (elsewhere, in_place) = ("handlers", "worker-0");
    for (of_server, of_service, of_method, expected) in [
        (None, None, None, in_place),
        (Some(true), None, None, elsewhere),
        (Some(true), Some(STAY), None, in_place),
        (None, Some(SPAWN), None, elsewhere),
        (None, Some(SPAWN), Some(STAY), in_place),
        (None, None, Some(SPAWN), elsewhere),
        (None, None, Some(SPAWN.run_to_completion(true)), elsewhere),
        (None, None, Some(CallOptions::new().run_to_completion(true)), in_place),
    ] {
        let mut settings = crate::support::server().workers(1);
        if let Some(spawn) = of_server {
            settings = settings.calls(CallOptions::new().spawn(spawn));
        }
        let mut router = Router::new().add(Busy::default().service());
        for (name, options) in [("test.Busy", of_service), ("test.Busy/Place", of_method)] {
            if let Some(options) = options {
                router = router.configure(name, options);
            }
        }
        let server = TestServer::start_with(settings, router).await;
        let mut peer = Peer::connect(server.addr).await;
        assert_eq!(peer.unary("/test.Busy/Place", "").await.messages(), [expected]);
    }
}

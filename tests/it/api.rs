//! The public API: where a user of the library sets interceptors, options and listeners.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use balafon::{
    Call, CallOptions, Interceptor, Listeners, Next, Outcome, Peer as ClientPeer, PeerAddr,
    Request, Response, Router, Rpc, Service, Status, testing,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::support::TestServer;
use crate::support::peer::Peer;

static SAY: Rpc<String, String> = Rpc::unary("/test.Said/Say");
static OTHER: Rpc<String, String> = Rpc::unary("/test.Other/Say");

/// Echoes the message through a closure that captures a call counter.
fn said(rpc: &'static Rpc<String, String>, count: Arc<AtomicU32>) -> Service {
    Service::builder(rpc.service, &[], ())
        .unary(rpc, move |_, request: Request<String>| {
            count.fetch_add(1, Ordering::Relaxed);
            async move { Ok(Response::new(request.into_message())) }
        })
        .build()
}

#[derive(Default)]
struct Counter(AtomicU32);

impl Interceptor for Counter {
    async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
        self.0.fetch_add(1, Ordering::Relaxed);
        next.run(call).await
    }
}

#[tokio::test]
async fn interceptors_can_be_shared_and_wrap_one_service() {
    let (of_all, of_one, handled) = <(Arc<Counter>, Arc<Counter>, Arc<AtomicU32>)>::default();
    let router = Router::new()
        .intercept(of_all.clone())
        .add(said(&SAY, handled.clone()).intercept(of_one.clone()))
        .add(said(&OTHER, handled.clone()));
    let server = TestServer::start(router).await;
    let mut peer = Peer::connect(server.addr).await;
    for path in [SAY.path, SAY.path, OTHER.path] {
        assert_eq!(peer.unary(path, "hello").await.messages(), ["hello"]);
    }
    let counts = [&of_all.0, &of_one.0, &*handled].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counts, [3, 2, 3]);
}

#[tokio::test]
async fn options_are_set_by_descriptor() {
    let short = CallOptions::new().max_receive_message_size(8);
    let count = Arc::default();
    let services = || Router::new().add(said(&SAY, Arc::clone(&count)));
    let of_service = services().services()[0];
    for router in [
        services().configure(&SAY, short),
        services().configure(SAY.method(), short),
        services().configure(of_service, short),
        services().configure("test.Said/Say", short),
    ] {
        let server = TestServer::start(router).await;
        let mut peer = Peer::connect(server.addr).await;
        assert_eq!(peer.unary(SAY.path, "short").await.grpc_status(), "0");
        let refused = peer.unary(SAY.path, "longer than eight").await;
        assert_eq!(refused.grpc_status(), "8", "{refused:?}");
    }
}

#[tokio::test]
async fn listeners_are_added_to_others() {
    let mut listeners = Listeners::new();
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap());
        listeners.push(listener);
    }
    let router = Router::new().add(said(&SAY, Arc::default()));
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(crate::support::server().serve(listeners, router, async {
        let _ = stopped.await;
    }));
    for address in addresses {
        let mut peer = Peer::connect(address).await;
        assert_eq!(peer.unary(SAY.path, "hello").await.messages(), ["hello"]);
    }
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn run_inside_a_runtime_says_what_to_do() {
    let error = crate::support::server().run("127.0.0.1:0", Router::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Other);
    assert!(error.to_string().contains("await Server::serve"), "{error}");
}

#[tokio::test]
async fn interceptors_are_tested_with_a_peer_of_choice() {
    struct OnlyLocal;

    impl Interceptor for OnlyLocal {
        async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
            match call.peer().addr {
                PeerAddr::Tcp(addr) if !addr.ip().is_loopback() => {
                    Status::permission_denied("not from here").into()
                }
                _ => next.run(call).await,
            }
        }
    }

    for (addr, allowed) in [("127.0.0.1:50000", true), ("192.0.2.1:50000", false)] {
        let (_, mut call) = Request::new(()).into_parts();
        call.set_peer(ClientPeer::new(PeerAddr::Tcp(addr.parse().unwrap())));
        let outcome = testing::intercept(&OnlyLocal, call, |_| async { Outcome::ok() }).await;
        assert_eq!(outcome.status.is_ok(), allowed, "{addr}");
    }
}

//! Load shedding: a server at its concurrency limit refuses calls at once.

use std::time::Duration;

use balafon::interceptors::ConcurrencyLimit;
use balafon::{Code, Router};

use crate::support::echo::Echo;
use crate::support::peer::{Peer, framed, request};
use crate::support::witness::{Seen, Witness};
use crate::support::{TestServer, patiently};

const UNARY: &str = "/test.Echo/Unary";

async fn serve(limit: ConcurrencyLimit) -> (TestServer, Peer, Seen) {
    let (witness, seen) = Witness::new();
    let router = Router::new().intercept(witness).intercept(limit).add(Echo::default().service());
    let server = TestServer::start(router).await;
    let peer = Peer::connect(server.addr).await;
    (server, peer, seen)
}

#[tokio::test]
async fn excess_call_is_unavailable_at_once() {
    let (_server, mut peer, mut seen) = serve(ConcurrencyLimit::new(2)).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut call = peer.open("/test.Echo/Bidi").await;
        call.message("hello", false);
        open.push(call);
    }
    // Both have arrived when this one has: they share a connection.
    for _ in 0..3 {
        let shed = patiently(peer.unary(UNARY, "hello")).await;
        assert_eq!(shed.grpc_status(), "14");
        assert!(shed.is_trailers_only());
        assert_eq!(seen.code().await, Code::Unavailable);
    }
    let mut call = open.remove(0);
    call.message("", true);
    assert_eq!(call.reply().await.unwrap().grpc_status(), "0");
    assert_eq!(peer.unary(UNARY, "hello").await.grpc_status(), "0");
}

#[tokio::test]
async fn permit_is_returned_however_the_call_ends() {
    let (_server, mut peer, mut seen) = serve(ConcurrencyLimit::new(1)).await;
    for (message, code) in [("fail", Code::NotFound), ("panic", Code::Unknown)] {
        peer.unary(UNARY, message).await;
        assert_eq!(seen.code().await, code);
    }
    peer.call(request(UNARY).header("grpc-timeout", "20m"), framed("wait")).await;
    assert_eq!(seen.code().await, Code::DeadlineExceeded);
    let mut call = peer.open(UNARY).await;
    call.message("wait", false);
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(call);
    assert_eq!(seen.code().await, Code::Cancelled);
    assert_eq!(peer.unary(UNARY, "hello").await.grpc_status(), "0");
}

#[tokio::test]
async fn exempt_methods_are_neither_counted_nor_refused() {
    let limit = ConcurrencyLimit::new(1).exempt("*/Server").unwrap();
    let (_server, mut peer, _) = serve(limit).await;
    let mut exempt = Vec::new();
    for _ in 0..2 {
        exempt.push(peer.open("/test.Echo/Server").await);
    }
    assert_eq!(peer.unary(UNARY, "hello").await.grpc_status(), "0");
    let mut open = peer.open("/test.Echo/Bidi").await;
    open.message("hello", false);
    assert_eq!(peer.unary(UNARY, "hello").await.grpc_status(), "14");
    assert_eq!(peer.unary("/test.Echo/Server", "count 1").await.grpc_status(), "0");
}

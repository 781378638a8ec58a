//! Rate limits of clients.

mod limits;
mod program;
mod proxies;
mod shared;

use balafon::Router;
use balafon::interceptors::rate_limit::RateLimit;

use crate::support::TestServer;
use crate::support::echo::Echo;
use crate::support::peer::{Peer, framed, request};

const UNARY: &str = "/test.Echo/Unary";

async fn serve(limit: RateLimit) -> TestServer {
    TestServer::start(Router::new().intercept(limit).add(Echo::default().service())).await
}

/// The number of these calls that pass; the others must fail because of the rate limit.
pub async fn passed(peer: &mut Peer, path: &str, headers: &[(&str, &str)], calls: usize) -> usize {
    let mut passed = 0;
    for _ in 0..calls {
        let head =
            headers.iter().fold(request(path), |head, (name, value)| head.header(*name, *value));
        match peer.call(head, framed("hello")).await.grpc_status() {
            "8" => {}
            "0" | "5" | "12" => passed += 1,
            status => panic!("the status is {status}"),
        }
    }
    passed
}

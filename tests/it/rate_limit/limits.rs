//! The rules, and the clients that they count.

use std::time::Duration;

use balafon::google::rpc::{RetryInfo, Status as RpcStatus};
use balafon::grpc::metadata::decode_bin;
use balafon::interceptors::auth::{Principal, PrincipalKind};
use balafon::interceptors::rate_limit::RateLimit;
use balafon::prost::Message;
use balafon::testing::{call, intercept};
use balafon::{Call, Code, Interceptor, Method, Next, Outcome, Router, Rpc, Status};
use bytes::BytesMut;

use super::{UNARY, passed, serve};
use crate::support::TestServer;
use crate::support::echo::Echo;
use crate::support::peer::{Peer, framed, request};

const MINUTE: Duration = Duration::from_secs(60);

static RPC: Rpc<(), ()> = Rpc::unary("/test.Echo/Unary");
static OTHER: Rpc<(), ()> = Rpc::unary("/test.Echo/Other");
static FREE: Rpc<(), ()> = Rpc::unary("/test.Free/Unary");
static FREE_OTHER: Rpc<(), ()> = Rpc::unary("/test.Free/Other");
static NO_RULE: Rpc<(), ()> = Rpc::unary("/test.NoRule/Unary");

/// A limiter with this number of calls a minute for every method.
fn limit(calls: u32) -> RateLimit {
    RateLimit::new().limit("*", calls, MINUTE).unwrap()
}

async fn outcome(limit: &RateLimit, method: &'static Method) -> Status {
    intercept(limit, call(method), |_| async { Outcome::ok() }).await.status
}

#[tokio::test]
async fn excess_calls_are_resource_exhausted_with_retry_delay() {
    let server = serve(limit(100)).await;
    let mut peer = Peer::connect(server.addr).await;
    assert_eq!(passed(&mut peer, UNARY, &[], 100).await, 100);
    let refused = peer.call(request(UNARY), framed("hello")).await;
    assert_eq!(refused.grpc_status(), "8");
    assert!(refused.is_trailers_only());
    assert!(refused.trailer("grpc-message").unwrap().starts_with("more than 100 calls in 60s"));

    let details = decode_bin(refused.trailer("grpc-status-details-bin").unwrap().as_bytes());
    let status = RpcStatus::decode(details.unwrap()).unwrap();
    let retry: RetryInfo = status.details.iter().find_map(|any| any.to_msg().ok()).unwrap();
    let delay = retry.delay().unwrap();
    assert!(delay > Duration::from_secs(30) && delay <= MINUTE, "{delay:?}");
    let pushback = refused.trailer("grpc-retry-pushback-ms").unwrap();
    assert_eq!(pushback.parse(), Ok(delay.as_millis()));
}

#[tokio::test]
async fn stream_messages_count_across_all_calls_of_a_client() {
    let limit = RateLimit::new()
        .limit_messages("*/Client", 5, MINUTE)
        .and_then(|limit| limit.limit("*/Client", 4, MINUTE))
        .and_then(|limit| limit.limit_messages("*", 2, MINUTE))
        .unwrap();
    let server = serve(limit).await;
    let mut peers = [Peer::connect(server.addr).await, Peer::connect(server.addr).await];
    let mut statuses = Vec::new();
    for (peer, messages) in [(0, 3), (1, 2), (0, 1), (1, 0)] {
        let mut body = BytesMut::new();
        (0..messages).for_each(|_| body.extend_from_slice(&framed("hello")));
        let reply = peers[peer].call(request("/test.Echo/Client"), body.freeze()).await;
        statuses.push(reply.grpc_status().to_owned());
        if reply.grpc_status() == "8" {
            let message = reply.trailer("grpc-message").unwrap();
            assert!(message.starts_with("more than 5 messages in 60s"), "{message}");
            // The messages before the limit may have been processed.
            assert_eq!(reply.trailer("grpc-retry-pushback-ms"), Some("-1"));
            assert_eq!(reply.trailer("grpc-status-details-bin"), None);
        }
    }
    assert_eq!(statuses, ["0", "0", "8", "0"]);
    // Its calls are counted separately.
    assert_eq!(passed(&mut peers[0], "/test.Echo/Client", &[], 1).await, 0);
    // Messages of unary methods count too, and other methods count separately.
    assert_eq!(passed(&mut peers[0], UNARY, &[], 5).await, 2);
}

#[tokio::test(start_paused = true)]
async fn retry_delay_is_long_enough() {
    let limit = limit(3);
    let mut refused = 0;
    for _ in 0..20 {
        let status = outcome(&limit, &RPC).await;
        if let Some(retry) = status.detail::<RetryInfo>() {
            refused += 1;
            tokio::time::advance(retry.delay().unwrap()).await;
            assert!(outcome(&limit, &RPC).await.is_ok());
        }
    }
    assert!(refused > 5);
}

#[tokio::test]
async fn methods_are_counted_alone_by_the_first_match() {
    let limit = RateLimit::new()
        .unlimited("test.Free/*")
        .and_then(|limit| limit.limit("*/Other", 1, MINUTE))
        .and_then(|limit| limit.limit("test.Echo/*", 2, MINUTE))
        .unwrap();
    let cases: [(&'static Method, usize); 5] =
        [(&RPC, 2), (&OTHER, 1), (&FREE, 9), (&FREE_OTHER, 9), (&NO_RULE, 9)];
    for (method, calls) in cases {
        let mut passed = 0;
        for _ in 0..9 {
            passed += usize::from(outcome(&limit, method).await.is_ok());
        }
        assert_eq!(passed, calls, "{method}");
    }
}

#[tokio::test]
async fn unknown_methods_count_as_one_method() {
    let server = serve(limit(3)).await;
    let mut peer = Peer::connect(server.addr).await;
    let mut calls = 0;
    for path in ["/a.B/C", "/a.B/D", "/a/b", "/x.Y/Z", "/x.Y/A"] {
        calls += passed(&mut peer, path, &[], 1).await;
    }
    assert_eq!(calls, 3);
}

#[tokio::test]
async fn connections_from_one_address_are_one_client() {
    let server = serve(limit(3)).await;
    let mut calls = 0;
    for _ in 0..5 {
        calls += passed(&mut Peer::connect(server.addr).await, UNARY, &[], 1).await;
    }
    assert_eq!(calls, 3);
}

/// Trusts the name that the client states, in place of authentication.
struct Named;

impl Interceptor for Named {
    async fn intercept(&self, mut call: Call, next: Next<'_>) -> Outcome {
        let header = |name| call.metadata().as_headers().get(name)?.to_str().ok();
        let kind = match header("key") {
            Some(_) => PrincipalKind::ApiKey,
            None => PrincipalKind::Token,
        };
        if let Some(principal) = header("name").map(|name| Principal::new(name, kind)) {
            call.extensions_mut().insert(principal);
        }
        next.run(call).await
    }
}

#[tokio::test]
async fn client_is_the_principal_from_any_address() {
    let router = Router::new().intercept(Named).intercept(limit(2));
    let server = TestServer::start(router.add(Echo::default().service())).await;
    let mut peer = Peer::connect(server.addr).await;
    for client in [&[("name", "a")][..], &[("name", "b")], &[("name", "a"), ("key", "")], &[]] {
        assert_eq!(passed(&mut peer, UNARY, client, 3).await, 2, "{client:?}");
    }
    let mut elsewhere = Peer::connect(server.addr).await;
    assert_eq!(passed(&mut elsewhere, UNARY, &[("name", "a")], 1).await, 0);
}

#[tokio::test]
async fn excess_call_does_not_reach_its_handler() {
    let limit = limit(1);
    assert!(outcome(&limit, &RPC).await.is_ok());
    let reached = |_| async { panic!("it is reached") };
    let outcome = intercept(&limit, call(&RPC), reached).await;
    assert_eq!(outcome.status.code(), Code::ResourceExhausted);
}

//! The wire protocol as a client sees it, rule by rule.

use balafon::{CallOptions, Router, Server};
use bytes::Bytes;
use h2::Reason;
use http::Request;
use tokio::net::TcpStream;

use crate::support::echo::Echo;
use crate::support::peer::{Peer, Reply, framed, request};
use crate::support::{TestServer, patiently};

async fn echo() -> (TestServer, Echo, Peer) {
    echo_on(crate::support::server()).await
}

async fn echo_on(server: Server) -> (TestServer, Echo, Peer) {
    let echo = Echo::default();
    let server = TestServer::start_with(server, Router::new().add(echo.service())).await;
    let peer = Peer::connect(server.addr).await;
    (server, echo, peer)
}

fn assert_trailers_only(reply: &Reply, status: &str) {
    assert!(reply.is_trailers_only(), "{reply:?}");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["content-type"], "application/grpc");
    assert_eq!(reply.grpc_status(), status);
}

#[tokio::test]
async fn successful_call_has_one_status_in_its_trailers() {
    let (_server, _, mut peer) = echo().await;
    let reply = peer.unary("/test.Echo/Unary", "hello").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["content-type"], "application/grpc");
    assert!(!reply.headers.contains_key("grpc-status"));
    assert_eq!(reply.messages(), ["hello"]);
    assert_eq!(reply.grpc_status(), "0");
    assert_eq!(reply.trailer("grpc-message"), None);
}

#[tokio::test]
async fn error_before_any_message_is_trailers_only() {
    let (_server, _, mut peer) = echo().await;
    let reply = peer.unary("/test.Echo/Unary", "fail").await;
    assert_trailers_only(&reply, "5");
    assert_eq!(reply.trailer("grpc-message"), Some("gone"));
    assert_eq!(reply.trailer("x-trailing"), Some("2"));
    let details = reply.trailer("grpc-status-details-bin").unwrap();
    assert!(!details.contains('='));
}

#[tokio::test]
async fn error_after_a_message_is_in_the_trailers() {
    let (_server, _, mut peer) = echo().await;
    let reply = peer.unary("/test.Echo/Server", "fail").await;
    assert_eq!(reply.messages(), ["fail"]);
    assert!(reply.trailers.is_some());
    assert_eq!(reply.grpc_status(), "5");
}

#[tokio::test]
async fn metadata_is_initial_or_trailing_as_set() {
    let (_server, _, mut peer) = echo().await;
    for path in ["/test.Echo/Unary", "/test.Echo/Server"] {
        let reply = peer.unary(path, "metadata").await;
        assert_eq!(reply.headers["x-initial"], "1", "{path}");
        assert!(!reply.headers.contains_key("x-trailing"));
        assert_eq!(reply.trailer("x-trailing"), Some("2"));
    }
}

#[tokio::test]
async fn unknown_method_or_service_is_unimplemented() {
    let (_server, _, mut peer) = echo().await;
    for path in [
        "/test.Echo/Missing",
        "/test.Missing/Unary",
        "/test.Echo/unary",
        "/test.Echo/Unary?query",
        "/test.Echo/Unary/",
        "/test.Echo",
        "/",
    ] {
        let reply = peer.unary(path, "hello").await;
        assert_trailers_only(&reply, "12");
    }
}

#[tokio::test]
async fn verb_other_than_post_is_405() {
    let (_server, _, mut peer) = echo().await;
    let get = Request::get("http://test/test.Echo/Unary").header("te", "trailers");
    let reply = peer.call(get.header("content-type", "application/grpc"), Bytes::new()).await;
    assert_eq!(reply.status, 405);
    assert_eq!(reply.headers["allow"], "POST");
    assert_eq!(reply.grpc_status(), "13");
}

#[tokio::test]
async fn content_type_other_than_grpc_is_415() {
    let (_server, _, mut peer) = echo().await;
    for value in [None, Some("text/plain"), Some("application/grpcfoo")] {
        let mut foreign = Request::post("http://test/test.Echo/Unary");
        if let Some(value) = value {
            foreign = foreign.header("content-type", value);
        }
        let reply = peer.call(foreign, framed("hello")).await;
        assert_eq!(reply.status, 415);
        assert_eq!(reply.trailer("grpc-status"), None);
        assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn te_trailers_may_be_missing() {
    let (_server, _, mut peer) = echo().await;
    let bare = Request::post("http://test/test.Echo/Unary");
    let reply = peer.call(bare.header("content-type", "application/grpc"), framed("a")).await;
    assert_eq!(reply.grpc_status(), "0");
}

#[tokio::test]
async fn te_trailers_may_be_required() {
    let router = Router::new().add(Echo::default().service());
    let server =
        TestServer::start_with(crate::support::server().require_te_trailers(true), router).await;
    let mut peer = Peer::connect(server.addr).await;
    let bare = Request::post("http://test/test.Echo/Unary");
    let reply = peer.call(bare.header("content-type", "application/grpc"), framed("a")).await;
    assert_trailers_only(&reply, "13");
    assert!(reply.trailer("grpc-message").unwrap().contains("te: trailers"));
    assert_eq!(peer.unary("/test.Echo/Unary", "b").await.messages(), ["b"]);
}

#[tokio::test]
async fn timeout_malformed_is_internal() {
    let (_server, _, mut peer) = echo().await;
    let head = request("/test.Echo/Unary").header("grpc-timeout", "1x");
    assert_trailers_only(&peer.call(head, framed("a")).await, "13");
}

#[tokio::test]
async fn timeout_of_zero_is_deadline_exceeded_at_once() {
    let (_server, _, mut peer) = echo().await;
    let head = request("/test.Echo/Unary").header("grpc-timeout", "0S");
    assert_trailers_only(&peer.call(head, framed("a")).await, "4");
}

#[tokio::test]
async fn deadline_ends_a_waiting_handler() {
    let (_server, echo, mut peer) = echo().await;
    let head = request("/test.Echo/Unary").header("grpc-timeout", "50m");
    assert_trailers_only(&peer.call(head, framed("wait")).await, "4");
    echo.until_running(0).await;
}

#[tokio::test]
async fn deadline_covers_a_missing_half_close() {
    let (_server, echo, mut peer) = echo().await;
    let head = request("/test.Echo/Client").header("grpc-timeout", "50m");
    let mut call = peer.open_with(head).await;
    call.message("hello", false);
    assert_trailers_only(&call.reply().await.unwrap(), "4");
    echo.until_running(0).await;
}

#[tokio::test]
async fn deadline_in_mid_stream_follows_earlier_messages() {
    let (_server, _, mut peer) = echo().await;
    let head = request("/test.Echo/Server").header("grpc-timeout", "100m");
    let reply = peer.call(head, framed("wait")).await;
    assert_eq!(reply.messages(), ["wait"]);
    assert_eq!(reply.grpc_status(), "4");
}

#[tokio::test]
async fn deadline_applies_with_a_stopped_reader() {
    let (_server, echo, mut peer) = echo().await;
    let head = request("/test.Echo/Server").header("grpc-timeout", "100m");
    let mut call = peer.open_with(head).await;
    call.message("flood", true);
    // The client reads nothing, so the window stays closed.
    let (_send, mut recv) = call.split().await.unwrap();
    echo.until_running(1).await;
    echo.until_running(0).await;
    let end = loop {
        match patiently(recv.data()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error.reason(),
            None => break None,
        }
    };
    // The window ended inside a message; no trailers can follow that.
    assert_eq!(end, Some(Reason::CANCEL));
}

#[tokio::test]
async fn reset_by_the_client_drops_the_handler() {
    let (_server, echo, mut peer) = echo().await;
    for path in ["/test.Echo/Unary", "/test.Echo/Server", "/test.Echo/Client", "/test.Echo/Bidi"] {
        let mut call = peer.open(path).await;
        call.message("wait", false);
        if path != "/test.Echo/Client" && path != "/test.Echo/Bidi" {
            call.send.send_data(Bytes::new(), true).unwrap();
        }
        echo.until_running(1).await;
        call.send.send_reset(Reason::CANCEL);
        echo.until_running(0).await;
    }
    assert_eq!(peer.unary("/test.Echo/Unary", "alive").await.grpc_status(), "0");
}

#[tokio::test]
async fn lost_connection_drops_its_handlers() {
    let (_server, echo, mut peer) = echo().await;
    let mut call = peer.open("/test.Echo/Bidi").await;
    call.message("hello", false);
    echo.until_running(1).await;
    peer.vanish();
    echo.until_running(0).await;
}

#[tokio::test]
async fn panic_becomes_a_status_and_keeps_the_connection() {
    let (_server, echo, mut peer) = echo().await;
    for path in ["/test.Echo/Unary", "/test.Echo/Server", "/test.Echo/Client", "/test.Echo/Bidi"] {
        let reply = peer.unary(path, "panic").await;
        assert_eq!(reply.grpc_status(), "2", "{path}");
    }
    echo.until_running(0).await;
    assert_eq!(peer.unary("/test.Echo/Unary", "alive").await.messages(), ["alive"]);
}

#[tokio::test]
async fn unary_request_without_exactly_one_message_is_unimplemented() {
    let (_server, _, mut peer) = echo().await;
    let two: Bytes = [framed("a"), framed("b")].concat().into();
    for path in ["/test.Echo/Unary", "/test.Echo/Server"] {
        let reply = peer.call(request(path), Bytes::new()).await;
        assert_trailers_only(&reply, "12");
        let reply = peer.call(request(path), two.clone()).await;
        assert_trailers_only(&reply, "12");
    }
}

#[tokio::test]
async fn stream_may_have_no_messages() {
    let (_server, _, mut peer) = echo().await;
    let reply = peer.call(request("/test.Echo/Bidi"), Bytes::new()).await;
    assert_eq!(reply.grpc_status(), "0");
    assert!(reply.messages().is_empty());
    let reply = peer.call(request("/test.Echo/Client"), Bytes::new()).await;
    assert_eq!(reply.messages(), [""]);
}

#[tokio::test]
async fn data_boundaries_are_not_message_boundaries() {
    let (_server, _, mut peer) = echo().await;
    let body: Bytes = [framed("one"), framed(""), framed("three")].concat().into();
    let mut call = peer.open("/test.Echo/Bidi").await;
    for byte in &body {
        call.send.send_data(Bytes::copy_from_slice(&[*byte]), false).unwrap();
    }
    call.send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(call.reply().await.unwrap().messages(), ["one", "", "three"]);
}

#[tokio::test]
async fn truncated_message_is_internal() {
    let (_server, _, mut peer) = echo().await;
    for path in ["/test.Echo/Unary", "/test.Echo/Server", "/test.Echo/Client", "/test.Echo/Bidi"] {
        let reply = peer.call(request(path), framed("hello").slice(..7)).await;
        assert_trailers_only(&reply, "13");
    }
}

#[tokio::test]
async fn undecodable_message_is_internal() {
    let (_server, _, mut peer) = echo().await;
    for body in [&[2, 0, 0, 0, 0][..], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 1, 0xff]] {
        let reply = peer.call(request("/test.Echo/Unary"), Bytes::copy_from_slice(body)).await;
        assert_trailers_only(&reply, "13");
    }
}

#[tokio::test]
async fn receive_limit_refuses_from_the_length_prefix() {
    let (_server, _, mut peer) =
        echo_on(crate::support::server().calls(CallOptions::new().max_receive_message_size(100)))
            .await;
    let exactly = "x".repeat(98);
    assert_eq!(peer.unary("/test.Echo/Unary", &exactly).await.grpc_status(), "0");
    let mut call = peer.open("/test.Echo/Unary").await;
    call.send.send_data(Bytes::from_static(&[0, 0, 0, 0, 101]), false).unwrap();
    assert_trailers_only(&call.reply().await.unwrap(), "8");
}

#[tokio::test]
async fn send_limit_exceeded_is_resource_exhausted() {
    let (_server, _, mut peer) =
        echo_on(crate::support::server().calls(CallOptions::new().max_send_message_size(100)))
            .await;
    let reply = peer.unary("/test.Echo/Unary", &"x".repeat(99)).await;
    assert_trailers_only(&reply, "8");
}

#[tokio::test]
async fn early_answer_is_followed_by_no_error_reset() {
    let (_server, _, mut peer) = echo().await;
    let mut call = peer.open("/test.Echo/Client").await;
    call.message("fail", false);
    let reason = patiently(std::future::poll_fn(|cx| call.send.poll_reset(cx))).await.unwrap();
    assert_eq!(reason, Reason::NO_ERROR);
    assert_eq!(call.reply().await.unwrap().grpc_status(), "5");
}

#[tokio::test]
async fn encoding_unsupported_is_unimplemented_and_lists_ours() {
    let (_server, _, mut peer) = echo().await;
    let head = request("/test.Echo/Unary").header("grpc-encoding", "snappy");
    let reply = peer.call(head, framed("a")).await;
    assert_trailers_only(&reply, "12");
    assert_eq!(reply.headers["grpc-accept-encoding"], "identity,gzip,deflate,zstd");
}

#[tokio::test]
async fn fast_producer_shares_data_frames() {
    let (_server, _, mut peer) = echo().await;
    let mut call = peer.open("/test.Echo/Server").await;
    call.message("count 1000", true);
    let (_send, mut recv) = call.split().await.unwrap();
    let mut frames = 0;
    while let Some(chunk) = patiently(recv.data()).await {
        recv.flow_control().release_capacity(chunk.unwrap().len()).unwrap();
        frames += 1;
    }
    assert!(frames < 10, "1000 messages of 9 bytes came in {frames} frames");
}

#[tokio::test]
async fn slow_producer_sends_each_message_at_once() {
    let (_server, echo, mut peer) = echo().await;
    let mut call = peer.open("/test.Echo/Bidi").await;
    call.message("first", false);
    let (mut send, mut recv) = call.split().await.unwrap();
    assert_eq!(patiently(recv.data()).await.unwrap().unwrap(), framed("first"));
    send.send_data(framed("second"), true).unwrap();
    assert_eq!(patiently(recv.data()).await.unwrap().unwrap(), framed("second"));
    echo.until_running(0).await;
}

#[tokio::test]
async fn flow_control_paces_a_large_message() {
    let (_server, _, mut peer) = echo().await;
    let large = "x".repeat(1 << 20);
    let reply = peer.unary("/test.Echo/Unary", &large).await;
    assert_eq!(reply.messages(), [large]);
}

#[tokio::test]
async fn flow_control_isolates_a_slow_stream() {
    let (_server, echo, mut peer) = echo().await;
    let mut call = peer.open("/test.Echo/Server").await;
    call.message("flood", true);
    let (_send, _recv) = call.split().await.unwrap();
    echo.until_running(1).await;
    for _ in 0..10 {
        assert_eq!(peer.unary("/test.Echo/Unary", "next").await.messages(), ["next"]);
    }
}

#[tokio::test]
async fn concurrent_calls_are_all_answered() {
    let (_server, echo, peer) = echo().await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..500 {
        let mut peer = peer.clone();
        calls.spawn(async move {
            let text = number.to_string();
            assert_eq!(peer.unary("/test.Echo/Unary", &text).await.messages(), [text]);
        });
    }
    while let Some(done) = patiently(calls.join_next()).await {
        done.unwrap();
    }
    echo.until_running(0).await;
}

#[tokio::test]
async fn cancellation_burst_leaves_the_connection_alone() {
    let (_server, echo, mut peer) = echo().await;
    for _ in 0..500 {
        let mut call = peer.open("/test.Echo/Unary").await;
        call.send.send_reset(Reason::CANCEL);
    }
    assert_eq!(peer.unary("/test.Echo/Unary", "alive").await.messages(), ["alive"]);
    echo.until_running(0).await;
}

#[tokio::test]
async fn handshake_timeout_closes_the_connection() {
    use tokio::io::AsyncReadExt;
    let timeout = std::time::Duration::from_millis(50);
    let (server, _, _) = echo_on(crate::support::server().handshake_timeout(timeout)).await;
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    let mut sent = Vec::new();
    // It ends with GOAWAY or with a reset.
    let _ = patiently(socket.read_to_end(&mut sent)).await;
}

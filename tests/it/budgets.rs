//! The joint limits of calls: unfinished messages and unread responses.

use std::ops::Range;
use std::time::Duration;

use balafon::Router;
use futures_util::future::join_all;

use crate::support::echo::Echo;
use crate::support::peer::{Peer, framed, request};
use crate::support::raw::{Frame, HEADERS, INITIAL_WINDOW_SIZE, Raw, head};
use crate::support::{TestServer, patiently};

const UNARY: &str = "/test.Echo/Unary";
const KIB: usize = 1024;

/// The least that each call of these tests holds.
const HELD: usize = 200 * KIB;

/// Bytes that a call may hold without being counted.
const ALLOWANCE: usize = 4 * KIB;

async fn start(connection: usize, server: usize) -> TestServer {
    // The peers ping to learn which frames the server has read.
    let settings = crate::support::server()
        .permit_pings(Duration::ZERO, true)
        .connection_buffer_limit(connection)
        .server_buffer_limit(server);
    TestServer::start_with(settings, Router::new().add(Echo::default().service())).await
}

/// The status of each call that has ended.
fn statuses(frames: &[Frame]) -> Vec<(&str, &str)> {
    let ends = frames.iter().filter(|frame| frame.kind == HEADERS && frame.ends());
    let field = |frame, name| Frame::field(frame, name).unwrap();
    ends.map(|frame| (field(frame, "grpc-status"), field(frame, "grpc-message"))).collect()
}

/// Sends these bytes in each of these calls and returns their frames.
async fn send(raw: &mut Raw, calls: Range<u32>, body: &[u8], end: bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    for stream in calls.map(|call| 2 * call + 1) {
        raw.headers(stream, &head(UNARY), false).await;
        for part in body.chunks(10 * KIB) {
            raw.data(stream, part, false).await;
        }
        if end {
            raw.data(stream, &[], true).await;
        }
        frames.extend(raw.settled().await);
    }
    frames
}

/// Calls with unfinished messages of 4 MiB.
async fn unfinished(raw: &mut Raw, calls: Range<u32>) -> Vec<Frame> {
    let part = [&[0, 0, 0x40, 0, 0][..], &[b'x'; HELD]].concat();
    send(raw, calls, &part, false).await
}

/// Calls whose responses have no flow-control window.
async fn unread(raw: &mut Raw, calls: Range<u32>) -> Vec<Frame> {
    send(raw, calls, &framed(&"x".repeat(HELD)), true).await
}

async fn assert_served(server: &TestServer, length: usize) {
    let message = "y".repeat(length);
    let mut peer = Peer::connect(server.addr).await;
    assert_eq!(peer.unary(UNARY, &message).await.messages(), [message]);
}

/// Asserts that the calls that fit are open, and that the others got the reason.
fn assert_bounded(frames: &[Frame], calls: usize, limit: usize, whose: &str) {
    let ended = statuses(frames);
    for (status, message) in &ended {
        assert_eq!(*status, "8");
        assert!(message.contains(whose), "{message}");
    }
    let left = calls - ended.len();
    assert!(left > 0 && left * (HELD - ALLOWANCE) <= limit, "{left} calls of {calls} are left");
}

#[tokio::test]
async fn unfinished_messages_stay_within_their_connections_limit() {
    let limit = 1024 * KIB;
    let server = start(limit, 100 * limit).await;
    let mut raw = Raw::connect(server.addr).await;
    let frames = unfinished(&mut raw, 0..20).await;
    assert_bounded(&frames, 20, limit, "this connection");
    assert_served(&server, 800 * KIB).await;
}

#[tokio::test]
async fn unread_responses_stay_within_their_connections_limit() {
    let limit = 1024 * KIB;
    let server = start(limit, 100 * limit).await;
    let mut raw = Raw::connect_with(server.addr, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    let frames = unread(&mut raw, 0..20).await;
    assert_bounded(&frames, 20, limit, "this connection");
    assert_served(&server, 800 * KIB).await;
}

#[tokio::test]
async fn server_limit_is_shared_and_freed_bytes_are_reusable() {
    let limit = 1024 * KIB;
    let server = start(limit, limit).await;
    let mut one = Raw::connect(server.addr).await;
    let mut frames = unfinished(&mut one, 0..2).await;
    let mut other = Raw::connect_with(server.addr, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    frames.extend(unread(&mut other, 0..20).await);
    assert_bounded(&frames, 22, limit, "this server");
    // Small calls take nothing from the limit.
    assert_served(&server, KIB).await;
    drop((one, other));
    // Their ends do not arrive at once.
    let message = "y".repeat(900 * KIB);
    let mut peer = Peer::connect(server.addr).await;
    let again = async { while peer.unary(UNARY, &message).await.grpc_status() != "0" {} };
    patiently(again).await;
}

#[tokio::test]
async fn calls_give_back_bytes_that_they_stop_holding() {
    let server = start(1024 * KIB, 1024 * KIB).await;
    let mut peer = Peer::connect(server.addr).await;
    let message = "x".repeat(700 * KIB);
    // All stay open, although each held more than half of the limit for a while.
    let mut calls = Vec::new();
    for _ in 0..4 {
        let mut call = peer.open("/test.Echo/Bidi").await;
        call.message(&message, false);
        let (send, mut recv) = call.split().await.unwrap();
        let mut received = 0;
        while received < message.len() {
            let chunk = patiently(recv.data()).await.unwrap().unwrap();
            received += chunk.len();
            recv.flow_control().release_capacity(chunk.len()).unwrap();
        }
        calls.push((send, recv));
    }
}

#[tokio::test]
async fn default_limits_allow_twenty_uploads_of_a_mebibyte() {
    let server = TestServer::start(Router::new().add(Echo::default().service())).await;
    let peer = Peer::connect(server.addr).await;
    let message = framed(&"x".repeat(1024 * KIB));
    let uploads = (0..20).map(|_| {
        let (mut peer, message) = (peer.clone(), message.clone());
        async move { peer.call(request(UNARY), message).await }
    });
    for reply in join_all(uploads).await {
        assert_eq!(reply.grpc_status(), "0", "{:?}", reply.trailers);
    }
}

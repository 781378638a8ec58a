//! Connections: their streams, windows and drains.

use std::sync::Arc;

use balafon::Router;
use h2::Reason;
use tokio::io::{BufReader, duplex};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::{
    BIDI, CLIENT, SERVER, UNARY, assert_alive, assert_served, echo, echo_with, messages, server,
};
use crate::support::echo::Echo;
use crate::support::patiently;
use crate::support::peer::framed;
use crate::support::raw::{
    ACK, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, PING, Raw, head,
};

#[tokio::test]
async fn streams_over_the_advertised_limit_are_refused() {
    let (_server, echo, mut raw) = echo_with(server().max_concurrent_streams(2), &[]).await;
    assert!(raw.settings.contains(&(MAX_CONCURRENT_STREAMS, 2)));
    for stream in [1, 3] {
        raw.request(stream, &head(UNARY), &framed("until told")).await;
        echo.until_running(stream.div_ceil(2) as usize).await;
    }
    raw.headers(5, &head(UNARY), false).await;
    assert!(raw.next_of(5).await.is_reset(Reason::REFUSED_STREAM));
    echo.tell();
    let first = raw.until(|frame| frame.ends()).await.stream;
    assert!([1, 3].contains(&first));
    assert_alive(&mut raw, 7).await;
}

#[tokio::test]
async fn drain_sends_two_goaways_and_serves_between_them() {
    let (mut server, echo, mut raw) = echo().await;
    raw.headers(1, &head(CLIENT), false).await;
    raw.data(1, &framed("before"), false).await;
    echo.until_running(1).await;
    server.shut_down();

    let first = raw.until(|frame| frame.kind == GOAWAY).await;
    assert_eq!((first.last_stream(), first.reason()), (0x7fff_ffff, Reason::NO_ERROR));
    let ping = raw.until(|frame| frame.kind == PING && frame.flags & ACK == 0).await;
    // The client has not received it yet.
    raw.request(3, &head(UNARY), &framed("in between")).await;
    assert_served(&raw.answer(3).await, &["in between"]);
    raw.headers(5, &head(CLIENT), false).await;

    raw.send(PING, ACK, 0, &ping.payload).await;
    let second = raw.until(|frame| frame.kind == GOAWAY).await;
    assert_eq!((second.last_stream(), second.reason()), (5, Reason::NO_ERROR));
    raw.data(1, &framed("after"), true).await;
    assert_served(&raw.answer(1).await, &["before after"]);
    raw.data(5, &framed("late"), true).await;
    assert_served(&raw.answer(5).await, &["late"]);
    // No call is left, so the connection closes.
    assert!(raw.goodbye().await.is_none_or(|frame| frame.reason() == Reason::NO_ERROR));
    server.served().await;
}

#[tokio::test]
async fn drain_does_not_wait_for_a_goaway_ack() {
    let (mut server, _, mut raw) = echo().await;
    assert_alive(&mut raw, 1).await;
    server.shut_down();
    raw.until(|frame| frame.kind == PING && frame.flags & ACK == 0).await;
    server.served().await;
    raw.goodbye().await;
}

#[tokio::test]
async fn lame_duck_reports_not_serving_and_serves_on() {
    use balafon::services::health::Health;

    let health = Health::new();
    let router = Router::new().add(Echo::default().service()).add(health.service());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (signal, time_is_over) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (signalled, over) = (signal.clone(), time_is_over.clone());
    // `lame_duck` sets the time, in the shutdown future that a program passes to the server.
    let serving = tokio::spawn(server().serve(listener, router, async move {
        signalled.notified().await;
        health.shutdown();
        over.notified().await;
    }));
    let mut raw = Raw::connect(addr).await;
    raw.request(1, &head("/grpc.health.v1.Health/Watch"), &[0; 5]).await;
    assert_eq!(raw.next_of(1).await.kind, HEADERS);
    assert_eq!(*raw.next_of(1).await.payload, [0, 0, 0, 0, 2, 8, 1]);
    signal.notify_one();
    assert_eq!(*raw.next_of(1).await.payload, [0, 0, 0, 0, 2, 8, 2]);
    assert_alive(&mut raw, 3).await;
    let mut newcomer = Raw::connect(addr).await;
    assert_alive(&mut newcomer, 1).await;
    assert!(raw.settled().await.iter().all(|frame| frame.kind != GOAWAY));
    time_is_over.notify_one();
    raw.until(|frame| frame.kind == GOAWAY).await;
    newcomer.until(|frame| frame.kind == GOAWAY).await;
    drop((raw, newcomer));
    patiently(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn window_is_released_without_a_pending_message() {
    // The window of the connection is 65,535 bytes; that of a stream is larger.
    let (_server, echo, mut raw) = echo_with(server(), &[(INITIAL_WINDOW_SIZE, 1 << 20)]).await;
    raw.headers(1, &head(BIDI), false).await;
    raw.data(1, &framed("a"), false).await;
    assert_eq!(raw.next_of(1).await.kind, HEADERS);
    assert_eq!(raw.next_of(1).await.payload, framed("a"));
    echo.until_running(1).await;
    // One answer takes nearly the whole rest, and the client gives no window back.
    let large = "x".repeat(60_000);
    raw.headers(3, &head(UNARY), false).await;
    let request = framed(&large);
    for part in request.chunks(16 * 1024) {
        raw.data(3, part, false).await;
    }
    raw.data(3, &[], true).await;
    assert_served(&raw.answer(3).await, &[&large]);
}

#[tokio::test]
async fn stopped_reader_holds_only_its_own_window() {
    let (_server, echo, mut raw) = echo_with(server(), &[(INITIAL_WINDOW_SIZE, 10_000)]).await;
    raw.request(1, &head(SERVER), &framed("flood")).await;
    echo.until_running(1).await;
    raw.headers(3, &head(SERVER), false).await;
    raw.window(3, 1 << 20).await;
    raw.data(3, &framed("count 5000"), true).await;
    // 50 of the 55 KB that are left of the connection's window.
    assert_eq!(messages(&raw.answer(3).await).len(), 5000);
}

#[tokio::test]
async fn client_that_reads_late_gets_all_responses() {
    const CALLS: usize = 900;
    let router = Arc::new(Router::new().add(Echo::default().service()));
    // The client's bytes always fit. The client reads all that has arrived at once, so the server
    // can then write all that it has.
    let (to_server, requests) = duplex(8 << 20);
    let (responses, from_server) = duplex(256 << 10);
    let from_server = BufReader::with_capacity(1 << 20, from_server);
    let io = tokio::io::join(requests, responses);
    let server = crate::support::server();
    tokio::spawn(async move { server.serve_connection(io, router).await });
    let mut raw = Raw::over(tokio::io::join(from_server, to_server), &[]).await;
    raw.window(0, 1 << 30).await;
    let message = framed(&"x".repeat(500));
    for stream in (1..).step_by(2).take(CALLS) {
        raw.request(stream, &head(UNARY), &message).await;
    }
    for _ in 0..CALLS {
        let end = raw.until(|frame| frame.field("grpc-status").is_some()).await;
        assert_eq!(end.field("grpc-status"), Some("0"));
    }
}

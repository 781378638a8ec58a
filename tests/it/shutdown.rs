//! Draining: no new calls, no lost calls, and always an end.

use std::io::read_to_string;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use balafon::{CallOptions, Response, Router, Rpc, Server, Service, Status};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::support::echo::Echo;
use crate::support::peer::Peer;
use crate::support::{TestServer, patiently};

async fn start(server: Server) -> (TestServer, Echo, Peer) {
    let echo = Echo::default();
    let server = TestServer::start_with(server, Router::new().add(echo.service())).await;
    let peer = Peer::connect(server.addr).await;
    (server, echo, peer)
}

#[tokio::test]
async fn drain_lets_open_calls_end() {
    for workers in [0, 2] {
        let (mut server, echo, mut peer) = start(crate::support::server().workers(workers)).await;
        let mut call = peer.open("/test.Echo/Client").await;
        call.message("before", false);
        echo.until_running(1).await;
        server.shut_down();
        call.message("after", true);
        assert_eq!(call.reply().await.unwrap().messages(), ["before after"]);
        server.served().await;
    }
}

#[tokio::test]
async fn drain_closes_the_listener_and_idle_connections() {
    let (mut server, _, mut peer) = start(crate::support::server()).await;
    peer.unary("/test.Echo/Unary", "hello").await;
    let addr = server.addr;
    server.shut_down();
    server.served().await;
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn drain_timeout_ends_calls_as_unavailable() {
    let timeout = Duration::from_millis(50);
    for workers in [0, 2] {
        let (mut server, echo, mut peer) =
            start(crate::support::server().workers(workers).drain_timeout(timeout)).await;
        let mut call = peer.open("/test.Echo/Unary").await;
        call.message("wait", true);
        echo.until_running(1).await;
        server.shut_down();
        assert_eq!(call.reply().await.unwrap().grpc_status(), "14");
        echo.until_running(0).await;
        server.served().await;
    }
}

#[tokio::test]
async fn drain_does_not_wait_for_a_handshake() {
    let (mut server, _, _) = start(crate::support::server()).await;
    let _silent = TcpStream::connect(server.addr).await.unwrap();
    server.shut_down();
    server.served().await;
}

#[tokio::test]
async fn drain_does_not_wait_for_a_stopped_reader() {
    let timeout = Duration::from_millis(50);
    let (mut server, echo, mut peer) = start(crate::support::server().drain_timeout(timeout)).await;
    let mut call = peer.open("/test.Echo/Server").await;
    call.message("flood", true);
    let (_send, _recv) = call.split().await.unwrap();
    echo.until_running(1).await;
    server.shut_down();
    server.served().await;
    echo.until_running(0).await;
}

const METHOD: &str = "/test.Blocking/Block";

static BLOCK: Rpc<String, String> = Rpc::unary(METHOD);

/// A handler that blocks its thread until the sender is dropped, and a count of running ones.
fn blocking(until: mpsc::Receiver<()>) -> (Service, watch::Receiver<usize>) {
    let (blocked, count) = watch::channel(0);
    let state = Arc::new((Mutex::new(until), blocked));
    let service = Service::builder("test.Blocking", &[], state)
        .unary(&BLOCK, |state, _| async move {
            state.1.send_modify(|blocked| *blocked += 1);
            let _ = state.0.lock().unwrap().recv();
            state.1.send_modify(|blocked| *blocked -= 1);
            Ok::<_, Status>(Response::new(String::new()))
        })
        .build();
    (service, count)
}

#[tokio::test]
async fn drain_abandons_a_blocking_handler() {
    let timeout = Duration::from_millis(50);
    for spawned in [false, true] {
        let (mut log, writer) = std::io::pipe().unwrap();
        let subscriber = tracing_subscriber::fmt().with_writer(Mutex::new(writer)).finish();
        let subscribed = tracing::subscriber::set_default(subscriber);
        let (release, until) = mpsc::channel();
        let (service, mut blocked) = blocking(until);
        let server = crate::support::server().workers(2).drain_timeout(timeout);
        let router = Router::new().add(service);
        let router = router.configure("test.Blocking", CallOptions::new().spawn(spawned));
        let mut server = TestServer::start_with(server, router).await;
        let mut peer = Peer::connect(server.addr).await;
        let mut call = peer.open(METHOD).await;
        call.message("", true);
        patiently(blocked.wait_for(|blocked| *blocked == 1)).await.unwrap();
        server.shut_down();
        server.served().await;
        assert_eq!(*blocked.borrow(), 1, "spawned: {spawned}");
        drop(release);
        patiently(blocked.wait_for(|blocked| *blocked == 0)).await.unwrap();
        drop(subscribed);
        let lines = read_to_string(&mut log).unwrap();
        let named = lines.contains("a handler blocks its worker") && lines.contains(METHOD);
        assert_eq!(named, !spawned, "{lines}");
    }
}

#[tokio::test]
async fn workers_serve_calls() {
    let (_server, _, mut peer) = start(crate::support::server().workers(2)).await;
    for number in 0..100 {
        let text = number.to_string();
        assert_eq!(peer.unary("/test.Echo/Unary", &text).await.messages(), [text]);
    }
}

#[tokio::test]
async fn connection_can_be_served_without_a_socket() {
    let (client, server) = tokio::io::duplex(1024);
    let router = Arc::new(Router::new().add(Echo::default().service()));
    let serving =
        tokio::spawn(
            async move { crate::support::server().serve_connection(server, router).await },
        );
    let (h2, connection) = h2::client::handshake(client).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = crate::support::peer::request("/test.Echo/Unary").body(()).unwrap();
    let (response, mut send) = h2.ready().await.unwrap().send_request(request, false).unwrap();
    send.send_data(crate::support::peer::framed("hello"), true).unwrap();
    assert_eq!(patiently(response).await.unwrap().status(), 200);
    connection.abort();
    patiently(serving).await.unwrap();
}

//! The limit on connections, and the answer to connections over it.

use std::net::SocketAddr;

use balafon::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::echo::Echo;
use crate::support::peer::Peer;
use crate::support::{TestServer, patiently};

/// Whether the server, which sends first, serves this connection or closes it.
async fn is_served(stream: &TcpStream) -> bool {
    matches!(patiently(stream.peek(&mut [0])).await, Ok(1))
}

/// A peer, as soon as the server accepts one.
async fn peer(addr: SocketAddr) -> Peer {
    let attempts = async {
        loop {
            let stream = TcpStream::connect(addr).await.unwrap();
            if is_served(&stream).await {
                return Peer::over(stream, &h2::client::Builder::new()).await;
            }
        }
    };
    patiently(attempts).await
}

#[tokio::test]
async fn excess_connections_are_closed_until_one_ends() {
    for workers in [0, 1] {
        let settings = crate::support::server().workers(workers).max_connections(2);
        let router = Router::new().add(Echo::default().service());
        let server = TestServer::start_with(settings, router).await;
        let mut served = peer(server.addr).await;
        assert_eq!(served.unary("/test.Echo/Unary", "one").await.messages(), ["one"]);
        // It has sent nothing yet, but it counts.
        let in_handshake = TcpStream::connect(server.addr).await.unwrap();
        for _ in 0..3 {
            assert!(!is_served(&TcpStream::connect(server.addr).await.unwrap()).await);
        }
        assert_eq!(served.unary("/test.Echo/Unary", "two").await.messages(), ["two"]);
        drop(in_handshake);
        let mut newcomer = peer(server.addr).await;
        assert_eq!(newcomer.unary("/test.Echo/Unary", "three").await.messages(), ["three"]);
    }
}

#[tokio::test]
async fn counters_have_connections_and_bytes() {
    let settings = crate::support::server().max_connections(2);
    let stats = settings.stats();
    let router = Router::new().add(Echo::default().service());
    let server = TestServer::start_with(settings, router).await;
    let mut one = peer(server.addr).await;
    let other = peer(server.addr).await;
    assert!(!is_served(&TcpStream::connect(server.addr).await.unwrap()).await);
    assert_eq!((stats.connections_open(), stats.connections_refused()), (2, 1));

    let (received, sent) = (stats.bytes_received(), stats.bytes_sent());
    let message = "x".repeat(10_000);
    one.unary("/test.Echo/Unary", &message).await;
    for more in [stats.bytes_received() - received, stats.bytes_sent() - sent] {
        assert!((10_000..11_000).contains(&more), "{more} bytes for a message of 10,000");
    }
    other.vanish();
    patiently(async {
        while stats.connections_open() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(stats.connections_accepted(), 2);
}

#[tokio::test]
async fn http_1_is_answered_with_the_ports_protocol() {
    let server = TestServer::start(Router::new()).await;
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    client.write_all(b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    patiently(client.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 505 ") && head.contains("connection: close"), "{head}");
    assert!(body.contains("only gRPC over HTTP/2"), "{body}");
}

#[tokio::test]
async fn tls_on_a_plaintext_port_gets_an_alert() {
    let server = TestServer::start(Router::new()).await;
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    client.write_all(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 3]).await.unwrap();
    let mut answer = Vec::new();
    patiently(client.read_to_end(&mut answer)).await.unwrap();
    // A fatal alert, protocol_version.
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70]);
}

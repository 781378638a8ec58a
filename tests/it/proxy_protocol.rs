//! Listeners behind proxies that state the client's address by the PROXY protocol.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use balafon::{Call, Interceptor, Listeners, Next, Outcome, PeerAddr, Router, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use user_server::pb::user_service::GET_USER;

use crate::support::echo::Echo;
use crate::support::log::Log;
use crate::support::patiently;
use crate::support::peer::{Peer, framed, request};
use crate::support::program::{Running, complaint};
use crate::tls::{Authority, Client};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 50000 443\r\n";

/// Version 2, IPv4 and TCP, for the same client, with an unknown TLV.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x07\x0a\0\0\x01\xc3\x50\x01\xbb\x04\0\x01\0";

/// Keeps the peer of the last call.
#[derive(Clone, Default)]
struct Callers(Arc<Mutex<String>>);

impl Interceptor for Callers {
    async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
        *self.0.lock().unwrap() = call.peer().to_string();
        next.run(call).await
    }
}

/// A server that trusts the sources that `trust` accepts, until the sender is dropped.
async fn serve(
    server: Server,
    router: Router,
    trust: fn(&PeerAddr) -> bool,
) -> (SocketAddr, oneshot::Sender<()>) {
    let mut listeners = Listeners::new();
    listeners.bind("127.0.0.1:0").await.unwrap();
    listeners.proxy_protocol(trust);
    let address = listeners.addresses()[0].parse().unwrap();
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(server.serve(listeners, router, async {
        let _ = stopped.await;
    }));
    (address, stop)
}

async fn connect(address: SocketAddr, header: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(header).await.unwrap();
    stream
}

async fn assert_closed(mut stream: TcpStream) {
    // A connection that is closed with unread input is reset.
    assert!(matches!(patiently(stream.read(&mut [0])).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn header_gives_the_client_address() {
    for workers in [0, 1] {
        let callers = Callers::default();
        let router = Router::new().intercept(callers.clone()).add(Echo::default().service());
        let server = crate::support::server().workers(workers);
        let (address, _stop) = serve(server, router, |_| true).await;
        // A silent connection does not delay others.
        let _silent = connect(address, b"").await;
        for (header, client) in
            [(V1, "192.0.2.7:50000"), (V2, "192.0.2.7:50000"), (b"PROXY UNKNOWN\r\n", "127.0.0.1:")]
        {
            let stream = connect(address, header).await;
            let mut peer = Peer::over(stream, &h2::client::Builder::new()).await;
            let reply = peer.call(request("/test.Echo/Unary"), framed("hello")).await;
            assert_eq!(reply.grpc_status(), "0");
            let seen = std::mem::take(&mut *callers.0.lock().unwrap());
            assert!(seen.starts_with(client), "{seen}");
        }
    }
}

#[tokio::test]
async fn header_comes_before_tls() {
    let authority = Authority::new();
    let server = crate::support::server().tls(authority.identity().server());
    let router = Router::new().add(Echo::default().service());
    let (address, _stop) = serve(server, router, |_| true).await;
    let stream = connect(address, V2).await;
    let stream = Client::new(&authority).handshake(stream).await.unwrap();
    let mut peer = Peer::over(stream, &h2::client::Builder::new()).await;
    assert_eq!(peer.unary("/test.Echo/Unary", "hello").await.messages(), ["hello"]);
}

#[tokio::test]
async fn header_is_required_and_accepted_from_trusted_sources_only() {
    let (log, _guard) = Log::start(tracing::Level::WARN);
    let router = || Router::new().add(Echo::default().service());
    let (address, _stop) = serve(crate::support::server(), router(), |_| true).await;
    assert_closed(connect(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await).await;
    assert_closed(connect(address, b"\x16\x03\x01").await).await;
    assert_eq!(log.take().matches("no PROXY header").count(), 2);
    let (address, _stop) = serve(crate::support::server(), router(), |_| false).await;
    assert_closed(connect(address, V1).await).await;
    let log = log.text();
    assert!(log.contains("not a trusted source") && log.contains("127.0.0.1"), "{log}");
}

#[tokio::test]
async fn program_enables_it_by_an_address_prefix() {
    let arguments = ["--listen", "proxy:127.0.0.1:0", "--proxy-sources", "127.0.0.0/8"];
    let mut running = Running::start(&arguments, &[]);
    let address = running.address.parse().unwrap();
    let stream = connect(address, V1).await;
    let mut peer = Peer::over(stream, &h2::client::Builder::new()).await;
    let reply = peer.call(request(GET_USER.path), framed("nobody")).await;
    assert_eq!(reply.grpc_status(), "5");
    let line = running.line_with("balafon::access");
    assert!(line.contains("\"peer\":\"192.0.2.7:50000\""), "{line}");
    assert_closed(connect(address, b"GET / HTTP/1.1\r\n\r\n").await).await;
    let line = running.line_with("closing a connection");
    assert!(line.contains("no PROXY header"), "{line}");
    let sources = ["--listen", "proxy:127.0.0.1:0", "--proxy-sources", "192.0.2.0/24"];
    let mut running = Running::start(&sources, &[]);
    assert_closed(connect(running.address.parse().unwrap(), V1).await).await;
    running.line_with("not a trusted source");
}

#[test]
fn setting_needs_trusted_sources() {
    let line = complaint(&["--listen", "proxy:127.0.0.1:0"]);
    assert!(line.contains("--listen") && line.contains("--proxy-sources"), "{line}");
}

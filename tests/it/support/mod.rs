//! Shared parts of the tests: servers on free ports, and clients for them.

pub mod collector;
pub mod echo;
pub mod folder;
#[cfg(target_os = "linux")]
pub mod health;
pub mod issuer;
pub mod link;
pub mod log;
pub mod peer;
#[cfg(target_os = "linux")]
pub mod pgbouncer;
#[cfg(target_os = "linux")]
pub mod postgres;
pub mod program;
pub mod raw;
pub mod redis;
pub mod witness;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use balafon::{Http2, Router, Server};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use user_server::domain::MAX_NAME_CHARS;

/// Longer than anything here takes on a loaded machine: for waits that should never run out.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The implementation of HTTP/2 that the variable `USER_SERVER_HTTP2` names. `user-server` reads the
/// same variable.
pub fn http2() -> Http2 {
    std::env::var("USER_SERVER_HTTP2").map_or(Http2::H2, |name| name.parse().unwrap())
}

pub fn is_native() -> bool {
    http2() == Http2::Native
}

/// A server with the default settings over [`http2`].
pub fn server() -> Server {
    Server::new().http2(http2())
}

/// A server in this process, on a port of its own.
pub struct TestServer {
    pub addr: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    served: JoinHandle<std::io::Result<()>>,
}

impl TestServer {
    pub async fn start(router: Router) -> Self {
        Self::start_with(server(), router).await
    }

    pub async fn start_with(server: Server, router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (shutdown, signal) = oneshot::channel();
        let served = tokio::spawn(server.serve(listener, router, async {
            let _ = signal.await;
        }));
        Self { addr, shutdown: Some(shutdown), served }
    }

    /// Starts the drain.
    pub fn shut_down(&mut self) {
        drop(self.shutdown.take());
    }

    /// Waits until the server has drained.
    pub async fn served(self) {
        patiently(self.served).await.unwrap().unwrap();
    }
}

/// Serves one end of a pipe, on the clock of the test. The task ends with the connection.
pub fn serve_pipe(server: &Server, router: &Arc<Router>) -> (DuplexStream, JoinHandle<()>) {
    let (client, io) = tokio::io::duplex(64 * 1024);
    let (server, router) = (server.clone(), router.clone());
    (client, tokio::spawn(async move { server.serve_connection(io, router).await }))
}

/// The longest name and the longest address that are accepted.
pub fn longest() -> [String; 2] {
    let label = "d".repeat(63);
    let email = format!("{}@{label}.{label}.{}", "l".repeat(64), "d".repeat(61));
    ["😀".repeat(MAX_NAME_CHARS), email]
}

/// Fails the test rather than waiting for ever.
pub async fn patiently<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("this takes far less time")
}

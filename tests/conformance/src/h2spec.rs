//! The server under test for h2spec. It prints the port on which it listens.

use balafon::{Http2, Router, Server, shutdown_signal};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    // From here on a signal drains the server.
    let shutdown = shutdown_signal();
    println!("{}", listener.local_addr()?.port());
    let http2 = std::env::var("USER_SERVER_HTTP2");
    let http2 = http2.map_or(Http2::H2, |name| name.parse().expect("h2 or native"));
    Server::new().http2(http2).serve(listener, Router::new(), shutdown).await
}

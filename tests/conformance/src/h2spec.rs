//! The server under test for h2spec. It prints the port on which it listens.

use balafon::{Router, Server, shutdown_signal};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    // From here on a signal drains the server.
    let shutdown = shutdown_signal();
    println!("{}", listener.local_addr()?.port());
    Server::new().serve(listener, Router::new(), shutdown).await
}

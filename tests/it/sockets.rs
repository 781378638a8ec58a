//! The listening sockets of a server: several at a time, and Unix sockets with their files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;

use balafon::{Call, Interceptor, Listeners, Next, Outcome, PeerAddr, Router};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use crate::support::echo::Echo;
use crate::support::folder::Folder;
use crate::support::patiently;
use crate::support::peer::Peer;

/// Answers with the caller's address.
struct Callers(mpsc::UnboundedSender<PeerAddr>);

impl Interceptor for Callers {
    async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
        let _ = self.0.send(call.peer().addr.clone());
        next.run(call).await
    }
}

fn router() -> Router {
    Router::new().add(Echo::default().service())
}

async fn connect_unix(path: &Path) -> Peer {
    let stream = UnixStream::connect(path).await.unwrap();
    Peer::over(stream, &h2::client::Builder::new()).await
}

async fn assert_served(peer: &mut Peer) {
    assert_eq!(peer.unary("/test.Echo/Unary", "hello").await.messages(), ["hello"]);
}

/// The error of listening on this Unix socket.
async fn refusal(path: &Path) -> String {
    let error = Listeners::new().bind_unix(path, 0o600).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on unix:{}: ", path.display())), "{error}");
    error
}

#[tokio::test]
async fn tcp_and_unix_sockets_are_served_together() {
    for workers in [0, 2] {
        let folder = Folder::new();
        let (path, other) = (folder.path("a.sock"), folder.path("b.sock"));
        let mut listeners = Listeners::new();
        listeners.bind("127.0.0.1:0").await.unwrap();
        listeners.bind(&format!("unix:{}", path.display())).await.unwrap();
        listeners.bind_unix(&other, 0o660).await.unwrap();
        let addresses = listeners.addresses();
        assert_eq!(addresses[1], format!("unix:{}", path.display()));

        let (callers, mut seen) = mpsc::unbounded_channel();
        let (shutdown, signal) = oneshot::channel::<()>();
        let router = router().intercept(Callers(callers));
        let server = crate::support::server().workers(workers);
        let served = tokio::spawn(server.serve(listeners, router, async {
            let _ = signal.await;
        }));
        let mut tcp = Peer::connect(addresses[0].parse().unwrap()).await;
        assert_served(&mut tcp).await;
        assert!(matches!(seen.recv().await, Some(PeerAddr::Tcp(_))));
        for path in [&path, &other] {
            assert_served(&mut connect_unix(path).await).await;
            assert_eq!(seen.recv().await, Some(PeerAddr::Unix));
        }
        drop(shutdown);
        patiently(served).await.unwrap().unwrap();
        assert!(!path.exists() && !other.exists(), "sockets are left behind");
    }
}

#[tokio::test]
async fn unix_socket_has_the_configured_permissions() {
    let folder = Folder::new();
    let path = folder.path("socket");
    let mode = || fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777;
    let mut listeners = Listeners::new();
    listeners.bind(&format!("unix:{}", path.display())).await.unwrap();
    assert_eq!(mode(), 0o600);
    drop(listeners);
    let mut listeners = Listeners::new();
    listeners.bind_unix(&path, 0o666).await.unwrap();
    assert_eq!(mode(), 0o666);
}

#[tokio::test]
async fn unix_socket_without_a_listener_is_replaced() {
    let folder = Folder::new();
    let path = folder.path("socket");
    drop(StdUnixListener::bind(&path).unwrap());
    assert!(path.exists());
    Listeners::new().bind_unix(&path, 0o600).await.unwrap();
}

#[tokio::test]
async fn unix_socket_in_use_and_other_files_are_kept() {
    let folder = Folder::new();
    let path = folder.path("socket");
    let _other = StdUnixListener::bind(&path).unwrap();
    assert!(refusal(&path).await.contains("in use"));
    assert!(path.exists());

    let file = folder.path("file");
    fs::write(&file, "precious").unwrap();
    assert!(refusal(&file).await.contains("not a socket"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(refusal(&folder.path("no/such/folder")).await.contains("No such file"));
}

#[tokio::test]
async fn unix_socket_of_another_server_is_not_removed() {
    let folder = Folder::new();
    let path = folder.path("socket");
    let mut listeners = Listeners::new();
    listeners.bind_unix(&path, 0o600).await.unwrap();
    fs::remove_file(&path).unwrap();
    let _other = StdUnixListener::bind(&path).unwrap();
    drop(listeners);
    assert!(path.exists());
}

//! Clients that create many users do not delay clients that create few.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::timeout;
use user_server::pb::{CreateUserRequest, user_service};

use crate::support::folder::{Folder, text};
use crate::support::peer::{Opened, Peer, encoded, request};
#[cfg(target_os = "linux")]
use crate::support::postgres;
use crate::support::program::Running;

/// Longer than all batches take on a loaded machine.
const LONG: Duration = Duration::from_secs(120);

/// Streams that are half-closed at the same time.
const STREAMS: usize = 24;

/// Users of each stream: the most that a stream may have.
const USERS: usize = 10_000;

/// Batches that may be answered while one creation waits: the running one, perhaps the next, and
/// some for a client that sees answers late. Without fair turns it would be all of them.
const AHEAD: usize = STREAMS * 2 / 3;

/// Sends a whole stream except its half-close. The server has read it, except for the last window.
async fn stream(peer: &mut Peer) -> Opened {
    let path = user_service::CREATE_USERS.path;
    let mut opened = peer.open_with(request(path).header("users-batch", "atomic")).await;
    let user = encoded(&CreateUserRequest { name: "Batch".into(), email: "a@b.co".into() });
    opened.send.send_data(user.repeat(USERS).into(), false).unwrap();
    opened.send.reserve_capacity(1);
    let room = poll_fn(|cx| opened.send.poll_capacity(cx));
    timeout(LONG, room).await.unwrap().unwrap().unwrap();
    opened
}

/// Half-closes a stream and counts its answer.
async fn finish(mut stream: Opened, answered: Arc<AtomicUsize>) {
    stream.send.send_data(Bytes::new(), true).unwrap();
    let (_send, mut answer) = timeout(LONG, stream.split()).await.unwrap().unwrap();
    while let Some(chunk) = timeout(LONG, answer.data()).await.unwrap() {
        let length = chunk.unwrap().len();
        answer.flow_control().release_capacity(length).unwrap();
    }
    let trailers = answer.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0", "{trailers:?}");
    answered.fetch_add(1, Ordering::Relaxed);
}

/// A creation waits for one batch at most, however many streams wait.
async fn one_batch_is_waited_for(store: &str) {
    let quiet = "info,balafon::access=off";
    let arguments = ["--workers", "2", "--log-level", quiet, "--store", store];
    let room = ["--connection-buffer-limit", "256MiB", "--server-buffer-limit", "256MiB"];
    let running = Running::start(&[&arguments[..], &room].concat(), &[]);
    let address = running.address.parse().unwrap();
    let [mut many, mut single] = [Peer::connect(address).await, Peer::connect(address).await];
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(stream(&mut many).await);
    }
    let answered = Arc::new(AtomicUsize::new(0));
    let mut batches: JoinSet<_> =
        streams.into_iter().map(|stream| finish(stream, answered.clone())).collect();
    let user = encoded(&CreateUserRequest { name: "Single".into(), email: "a@b.co".into() });
    let (mut calls, mut before) = (0, 0);
    while before < STREAMS && batches.try_join_next().is_none_or(|ended| ended.is_ok()) {
        let reply = single.call(request(user_service::CREATE_USER.path), user.clone()).await;
        assert_eq!(reply.grpc_status(), "0");
        calls += 1;
        let after = answered.load(Ordering::Relaxed);
        assert!(after - before <= AHEAD, "{} batches before creation {calls}", after - before);
        before = after;
    }
    batches.join_all().await;
    assert!(calls > 2, "{calls} creations beside all batches");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creations_wait_for_one_batch_in_a_file() {
    let folder = Folder::new();
    let store = format!("sqlite:{}", text(&folder.path("users.db")));
    one_batch_is_waited_for(&store).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creations_wait_for_one_batch_in_postgres() {
    let Some(server) = tokio::task::spawn_blocking(postgres::own).await.unwrap() else { return };
    one_batch_is_waited_for(&server.database()).await;
}

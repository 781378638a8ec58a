//! Whoever creates much does not hold up those who create little.

use std::time::{Duration, Instant};

use balafon::users::pb::{CreateUserRequest, user_service};
use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;

use crate::support::folder::{Folder, text};
use crate::support::peer::{Opened, Peer, encoded, request};
#[cfg(target_os = "linux")]
use crate::support::postgres;
use crate::support::program::Running;

/// Streams that are half-closed at once.
const STREAMS: usize = 24;

/// Users of each: as many as there may be.
const USERS: usize = 10_000;

/// Calls whose times are compared.
const CALLS: usize = 100;

/// All of a stream, but its half-close.
async fn stream(peer: &mut Peer, mode: &str) -> Opened {
    let path = user_service::CREATE_USERS.path;
    let mut opened = peer.open_with(request(path).header("users-batch", mode)).await;
    let user = encoded(&CreateUserRequest { name: "Batch".into(), email: "a@b.co".into() });
    let mut all = BytesMut::new();
    (0..USERS).for_each(|_| all.extend_from_slice(&user));
    opened.send.send_data(all.freeze(), false).unwrap();
    opened
}

/// Half-closes streams, and waits for all of their answers.
async fn finish(streams: Vec<Opened>) {
    let replies = streams.into_iter().map(|mut stream| {
        stream.send.send_data(Bytes::new(), true).unwrap();
        async move { stream.reply().await.unwrap() }
    });
    for reply in join_all(replies).await {
        assert_eq!(reply.grpc_status(), "0", "{:?}", reply.trailer("grpc-message"));
    }
}

/// How long creations take, one after the other, for as long as wanted.
async fn create(peer: &mut Peer, mut wanted: impl FnMut(usize) -> bool) -> Vec<Duration> {
    let user = encoded(&CreateUserRequest { name: "Single".into(), email: "a@b.co".into() });
    let mut times = Vec::new();
    while wanted(times.len()) {
        let begun = Instant::now();
        let reply = peer.call(request(user_service::CREATE_USER.path), user.clone()).await;
        assert_eq!(reply.grpc_status(), "0");
        times.push(begun.elapsed());
        tokio::task::yield_now().await;
    }
    times.sort_unstable();
    times
}

fn p99(times: &[Duration]) -> Duration {
    times[times.len() * 99 / 100]
}

/// A creation waits for one batch at the most, however many wait.
async fn one_batch_is_waited_for(store: &str) {
    let quiet = "info,balafon::access=off";
    let arguments = ["--workers", "2", "--log-level", quiet, "--store", store];
    let room = ["--connection-buffer-limit", "256MiB", "--server-buffer-limit", "256MiB"];
    let running = Running::start(&[&arguments[..], &room].concat(), &[]);
    let address = running.address.parse().unwrap();
    let [mut many, mut single] = [Peer::connect(address).await, Peer::connect(address).await];
    let idle = create(&mut single, |calls| calls < CALLS).await;

    let one = stream(&mut many, "atomic").await;
    let begun = Instant::now();
    finish(vec![one]).await;
    let alone = begun.elapsed();

    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(stream(&mut many, "atomic").await);
    }
    let begun = Instant::now();
    let finished = tokio::spawn(finish(streams));
    let busy = create(&mut single, |_| !finished.is_finished()).await;
    finished.await.unwrap();
    let all = begun.elapsed();
    // What it takes to read them as well.
    let bound = 10 * p99(&idle) + 2 * alone;
    let slow = p99(&busy);
    assert!(
        slow < bound,
        "{slow:?} of {} in {all:?}, idle {:?}, batch {alone:?}",
        busy.len(),
        p99(&idle)
    );
    assert!(bound < all / 2, "a batch of {alone:?} of {all:?} shows nothing");
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

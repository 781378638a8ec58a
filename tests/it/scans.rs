//! The memory cost of clients that request all users and stop reading.

#![cfg(target_os = "linux")]

use std::time::Duration;

use balafon::grpc::frame::encode;
use bytes::{Bytes, BytesMut};
use tokio::time::sleep;
use user_server::pb::{CreateUserRequest, user_service};

use crate::support::folder::{Folder, text};
use crate::support::peer::{Opened, Peer, request};
use crate::support::program::Running;
use crate::support::{longest, patiently};

/// Starts the program with some users.
async fn start(store: &str, user: CreateUserRequest, users: usize) -> (Running, Peer) {
    start_with(&["--store", store], user, users).await
}

async fn start_with(more: &[&str], user: CreateUserRequest, users: usize) -> (Running, Peer) {
    let batch = users.to_string();
    let arguments = [&["--workers", "1", "--max-batch", &batch][..], more].concat();
    let running = Running::start(&arguments, &[]);
    let mut client = Peer::connect(running.address.parse().unwrap()).await;

    let mut batch = BytesMut::new();
    for _ in 0..users {
        encode(&mut batch, &user, usize::MAX).unwrap();
    }
    let created = client.call(request(user_service::CREATE_USERS.path), batch.freeze()).await;
    assert_eq!(created.grpc_status(), "0");
    (running, client)
}

fn typical() -> CreateUserRequest {
    CreateUserRequest { name: "Some Body".into(), email: "some@example.com".into() }
}

async fn ask(client: &mut Peer) -> Opened {
    let mut call = client.open(user_service::GET_ALL_USERS.path).await;
    call.send.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
    call
}

/// `SCAN_USERS=1000000 cargo test --release --test it slow_reader -- --nocapture` for the figure
/// with a million users.
#[tokio::test]
#[allow(clippy::print_stdout)] // The figure is half of this test's purpose.
async fn a_slow_reader_of_all_users_costs_no_memory() {
    let count: usize = std::env::var("SCAN_USERS").map_or(100_000, |n| n.parse().unwrap());
    let (running, mut client) = start("memory:", typical(), count).await;

    let call = ask(&mut client).await;
    let before = running.memory("VmRSS");
    let (_send, mut recv) = call.split().await.unwrap();
    let (mut most, mut chunks, mut bytes) = (before, 0, 0);
    while let Some(chunk) = patiently(recv.data()).await {
        let len = chunk.unwrap().len();
        recv.flow_control().release_capacity(len).unwrap();
        (chunks, bytes) = (chunks + 1, bytes + len);
        if chunks % 16 == 0 {
            // The reader is this slow; the server filled the window long before.
            sleep(Duration::from_millis(1)).await;
            most = most.max(running.memory("VmRSS"));
        }
    }
    println!("{count} users, {bytes} bytes: {before} KiB before, {most} KiB at most");
    assert!(bytes > count * 80, "{bytes} bytes are not {count} users");
    assert!(most < before + 4 * 1024, "memory grew from {before} to {most} KiB");
}

#[tokio::test]
#[allow(clippy::print_stdout)]
async fn stopped_readers_hold_little_memory() {
    const READERS: u64 = 100;
    // In KiB: the connection, the data in its window of 64 KiB, and SQLite's own cache, which grows
    // to 8 MiB for all of them together.
    let [name, email] = longest();
    let longest = CreateUserRequest { name, email };
    for (user, in_memory, in_sqlite) in [(typical(), 256, 512), (longest, 256, 800)] {
        let folder = Folder::new();
        let sqlite = format!("sqlite:{}", text(&folder.path("users.db")));
        for (store, bound) in [("memory:", in_memory), (&*sqlite, in_sqlite)] {
            let (running, _client) = start(store, user.clone(), 10_000).await;
            let before = running.memory("VmRSS");
            let mut stopped = Vec::new();
            for _ in 0..READERS {
                let mut reader = Peer::connect(running.address.parse().unwrap()).await;
                let call = patiently(ask(&mut reader).await.split()).await.unwrap();
                stopped.push((reader, call));
            }
            // Until the server has nothing more to do for them.
            let mut spent = None;
            while spent.replace(running.ticks()) != Some(running.ticks()) {
                sleep(Duration::from_millis(100)).await;
            }
            let each = running.memory("VmRSS").saturating_sub(before) / READERS;
            println!("{store} {each} KiB for each reader");
            assert!(each < bound, "{each} KiB for each reader of {store}");
        }
    }
}

#[tokio::test]
async fn stopped_readers_share_their_connections_limit() {
    const READERS: usize = 200;
    let folder = Folder::new();
    let store = format!("sqlite:{}", text(&folder.path("users.db")));
    let arguments = ["--connection-buffer-limit", "4MiB", "--store", &store];
    let (running, _client) = start_with(&arguments, typical(), 2_000).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(64 << 20).initial_max_send_streams(READERS);
    let mut reader = Peer::connect_with(running.address.parse().unwrap(), &builder).await;
    let mut calls = Vec::new();
    for _ in 0..READERS {
        calls.push(ask(&mut reader).await);
    }
    // They read only after all of them have filled their windows or have ended.
    let mut statuses = Vec::new();
    for call in calls {
        let (_send, mut recv) = patiently(call.split()).await.unwrap();
        while let Some(Ok(chunk)) = patiently(recv.data()).await {
            recv.flow_control().release_capacity(chunk.len()).unwrap();
        }
        // A call without a status was ended in the middle of a message.
        let trailers = patiently(recv.trailers()).await.ok().flatten();
        statuses.push(trailers.map(|trailers| trailers["grpc-status"].clone()));
    }
    let whole = statuses.iter().flatten().filter(|status| *status == "0").count();
    assert!(whole > 0 && whole < READERS, "{whole} of {READERS}");
}

//! `CreateUsers`: when users are stored, and which users a broken stream leaves.

use balafon::google::rpc::BadRequest;
use balafon::prost::Message;
use balafon::testing::{Recorder, Requests, requests};
use balafon::{Code, Encoding, Request, Response, Router, Status, Streaming};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::{Instant, advance};
use user_server::pb::{CreateUserRequest, CreateUsersResponse, UserService, user_service};
use user_server::service::{USERS_BATCH, USERS_TOTAL, Users};
use user_server::store::memory::MemoryStore;

use crate::support::peer::{Peer, encoded, framed, request};
use crate::support::program::Running;
use crate::support::raw::{Raw, head_with};
use crate::support::{TestServer, patiently};

const HOUR: Duration = Duration::from_secs(3600);

fn service() -> Users<MemoryStore> {
    Users::new(MemoryStore::new()).chunks(2, HOUR)
}

fn user(n: usize) -> CreateUserRequest {
    CreateUserRequest { name: format!("User {n}"), email: "a@b.co".into() }
}

fn call(
    mode: &'static str,
    messages: Streaming<CreateUserRequest>,
) -> Request<Streaming<CreateUserRequest>> {
    let mut request = Request::new(messages);
    request.metadata_mut().insert(&USERS_BATCH, balafon::AsciiValue::from_static(mode));
    request
}

async fn stored(service: &Users<MemoryStore>) -> usize {
    let recorder = Recorder::new();
    recorder.record(|out| service.get_all_users(Request::new(()), out)).await;
    recorder.metadata().get(&USERS_TOTAL).unwrap().parse().unwrap()
}

/// Runs a stream until the handler has read every sent message, then runs `then`.
async fn with_open_stream<T>(
    service: &Users<MemoryStore>,
    mode: &'static str,
    count: usize,
    then: impl AsyncFnOnce(&Users<MemoryStore>) -> T,
) -> T {
    let (client, messages) = requests();
    (0..count).for_each(|n| client.send(&user(n)));
    tokio::select! {
        biased;
        ended = service.create_users(call(mode, messages)) => panic!("{ended:?}"),
        seen = async { then(service).await } => seen,
    }
}

/// The answer to these messages and the half-close.
async fn answer(
    service: &Users<MemoryStore>,
    mode: &'static str,
    users: impl IntoIterator<Item = CreateUserRequest>,
) -> Result<Response<CreateUsersResponse>, Status> {
    service.create_users(call(mode, Streaming::from_messages(users))).await
}

#[tokio::test]
async fn chunk_is_stored_when_it_is_full() {
    for (sent, expected) in [(0, 0), (1, 0), (2, 2), (3, 2), (5, 4)] {
        let service = service();
        assert_eq!(with_open_stream(&service, "chunked", sent, stored).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn chunk_is_stored_after_its_longest_wait() {
    let started = Instant::now();
    let service = service();
    with_open_stream(&service, "chunked", 1, async |service| {
        while stored(service).await == 0 {
            advance(Duration::from_secs(60)).await;
        }
    })
    .await;
    assert!((HOUR..HOUR * 2).contains(&started.elapsed()));
}

#[tokio::test]
async fn chunked_stream_that_breaks_off_leaves_whole_chunks() {
    let service = service();
    with_open_stream(&service, "chunked", 5, async |_| ()).await;
    assert_eq!(stored(&service).await, 4);
}

#[tokio::test(start_paused = true)]
async fn atomic_stream_stores_nothing_before_its_end() {
    let service = service();
    with_open_stream(&service, "atomic", 5, async |service| {
        advance(2 * HOUR).await;
        assert_eq!(stored(service).await, 0);
    })
    .await;
    assert_eq!(stored(&service).await, 0);
}

#[tokio::test]
async fn failed_stream_leaves_whole_chunks_or_nothing() {
    for (mode, left) in [("chunked", 2), ("atomic", 0)] {
        let service = service();
        let (client, messages): (Requests<CreateUserRequest>, _) = requests();
        (0..3).for_each(|n| client.send(&user(n)));
        drop(client);
        let status = service.create_users(call(mode, messages)).await.unwrap_err();
        assert_eq!(status.code(), Code::Cancelled);
        assert_eq!(stored(&service).await, left, "{mode}");
    }
}

#[tokio::test]
async fn half_close_stores_every_user() {
    for mode in ["chunked", "atomic"] {
        let service = service();
        let response = answer(&service, mode, (0..5).map(user)).await.unwrap();
        assert_eq!(response.message.created_count, 5);
        assert!(response.message.user_ids.is_sorted());
        assert_eq!(stored(&service).await, 5);
    }
}

#[tokio::test]
async fn atomic_stream_with_an_invalid_message_stores_nothing() {
    let service = service();
    let nobody = CreateUserRequest { name: "Nobody".into(), email: "nowhere".into() };
    let status = answer(&service, "atomic", [user(0), user(1), nobody, user(3)]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let detail: BadRequest = status.detail().unwrap();
    assert_eq!(detail.field_violations[0].field, "messages[2].email");
    assert_eq!(stored(&service).await, 0);
}

#[tokio::test]
async fn stream_over_the_limit_ends_by_its_mode() {
    for (mode, left) in [("chunked", 3), ("atomic", 0)] {
        let service = service().max_batch(3);
        let status = answer(&service, mode, (0..4).map(user)).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().ends_with(&format!("{left} users were created")), "{status:?}");
        assert_eq!(stored(&service).await, left);
    }
}

#[tokio::test]
async fn unknown_mode_is_refused() {
    let status = answer(&service(), "atmoic", [user(0)]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("atomic or chunked"), "{status:?}");
}

/// Opens a `CreateUsers` stream on a connection of its own and sends this message compressed.
#[cfg(target_os = "linux")]
async fn long_stream(address: &str, message: &CreateUserRequest) -> Raw {
    let payload = Encoding::GZIP.compress(&message.encode_to_vec()).unwrap();
    let length = u32::try_from(payload.len()).unwrap();
    let mut raw = Raw::connect(address.parse().unwrap()).await;
    raw.headers(
        1,
        &head_with(user_service::CREATE_USERS.path, &[("grpc-encoding", "gzip")]),
        false,
    )
    .await;
    raw.data(1, &[&[1][..], &length.to_be_bytes(), &payload].concat(), false).await;
    raw
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn waiting_streams_do_not_hold_long_messages() {
    const STREAMS: u64 = 16;
    const LONG: usize = 3 << 20;
    let running = Running::start(&["--workers", "1"], &[]);
    let mut client = Peer::connect(running.address.parse().unwrap()).await;
    let user = encoded(&user(0));
    client.call(request(user_service::CREATE_USER.path), user.clone()).await;
    let before = running.memory("VmRSS");

    let mut waiting = Vec::new();
    let long = CreateUserRequest { name: "x".repeat(LONG), email: String::new() };
    for _ in 0..STREAMS {
        let mut raw = long_stream(&running.address, &long).await;
        raw.data(1, &user, false).await;
        waiting.push(raw);
    }
    // The users after them are stored, so the server has read all of them.
    patiently(async {
        loop {
            let all = client.call(request(user_service::GET_ALL_USERS.path), framed("")).await;
            if all.headers["users-total"] == (STREAMS + 1).to_string() {
                break;
            }
        }
    })
    .await;
    patiently(async {
        while running.memory("VmRSS") > before + STREAMS * LONG as u64 / 1024 / 3 {
            client.call(request(user_service::CREATE_USER.path), user.clone()).await;
        }
    })
    .await;
}

#[tokio::test]
async fn atomic_stream_is_held_within_the_buffer_limit() {
    let long = CreateUserRequest { name: "😀".repeat(100), email: "a@b.co".into() };
    for (mode, status) in [("atomic", "8"), ("chunked", "0")] {
        let server = crate::support::server().connection_buffer_limit(128 * 1024);
        let users = Users::new(MemoryStore::new()).chunks(10, HOUR);
        let server = TestServer::start_with(server, Router::new().add(users.into_service())).await;
        let mut peer = Peer::connect(server.addr).await;
        let path = user_service::CREATE_USERS.path;
        let mut call = peer.open_with(request(path).header("users-batch", mode)).await;
        for _ in 0..500 {
            call.send.send_data(encoded(&long), false).unwrap();
        }
        if mode == "chunked" {
            call.send.send_data(Bytes::new(), true).unwrap();
        }
        let reply = call.reply().await.unwrap();
        assert_eq!(reply.grpc_status(), status, "{mode}");
        if mode == "atomic" {
            let message = reply.trailer("grpc-message").unwrap();
            assert!(message.ends_with("0 users were created"), "{message}");
        }
    }
}

#[tokio::test]
async fn stream_without_room_reports_the_stored_users() {
    // Every chunk but the last is stored; then a message does not fit.
    let server = crate::support::server().connection_buffer_limit(128 * 1024);
    let users = Users::new(MemoryStore::new()).chunks(10, HOUR);
    let server = TestServer::start_with(server, Router::new().add(users.into_service())).await;
    let mut peer = Peer::connect(server.addr).await;
    let mut call = peer.open(user_service::CREATE_USERS.path).await;
    for n in 0..25 {
        call.send.send_data(encoded(&user(n)), false).unwrap();
    }
    let long = CreateUserRequest { name: "x".repeat(1 << 20), email: String::new() };
    call.send.send_data(encoded(&long), false).unwrap();
    let reply = call.reply().await.unwrap();
    assert_eq!(reply.grpc_status(), "8");
    let message = reply.trailer("grpc-message").unwrap();
    assert!(message.contains("buffer limit"), "{message}");
    assert!(message.ends_with("in another stream: 20 users were created"), "{message}");
}

#[tokio::test]
async fn silent_stream_reports_the_stored_users() {
    let running = Running::start(&["--stream-idle-timeout", "300ms"], &[]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    for path in [user_service::CREATE_USERS.path, user_service::UPDATE_USERS.path] {
        let mut call = peer.open(path).await;
        if path == user_service::CREATE_USERS.path {
            call.send.send_data(encoded(&user(0)), false).unwrap();
        }
        let reply = call.reply().await.unwrap();
        assert_eq!(reply.grpc_status(), "4");
        let message = reply.trailer("grpc-message").unwrap();
        assert!(message.contains("the client was idle"), "{message}");
        let says = message.contains("1 users were created");
        assert_eq!(says, path == user_service::CREATE_USERS.path, "{message}");
    }
}

//! `CreateUsers`: what is stored when, and what a stream leaves behind that breaks off.

use balafon::rpc::BadRequest;
use balafon::testing::{Recorder, Requests, requests};
use balafon::users::pb::{CreateUserRequest, CreateUsersResponse, UserService};
use balafon::users::store::memory::MemoryStore;
use balafon::users::{USERS_BATCH, USERS_TOTAL, Users};
use balafon::{Code, Request, Response, Status, Streaming};
use std::time::Duration;
use tokio::time::{Instant, advance};

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

/// Runs a stream until it has read all that was sent, which `then` gets to see.
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
async fn a_chunk_is_stored_when_it_is_full() {
    for (sent, expected) in [(0, 0), (1, 0), (2, 2), (3, 2), (5, 4)] {
        let service = service();
        assert_eq!(with_open_stream(&service, "chunked", sent, stored).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_chunk_is_stored_when_its_first_user_has_waited_long_enough() {
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
async fn a_stream_in_chunks_that_breaks_off_leaves_whole_chunks() {
    let service = service();
    with_open_stream(&service, "chunked", 5, async |_| ()).await;
    assert_eq!(stored(&service).await, 4);
}

#[tokio::test(start_paused = true)]
async fn an_atomic_stream_stores_nothing_before_its_end() {
    let service = service();
    with_open_stream(&service, "atomic", 5, async |service| {
        advance(2 * HOUR).await;
        assert_eq!(stored(service).await, 0);
    })
    .await;
    assert_eq!(stored(&service).await, 0);
}

#[tokio::test]
async fn a_stream_that_fails_leaves_whole_chunks_or_nothing() {
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
async fn all_are_stored_at_the_half_close() {
    for mode in ["chunked", "atomic"] {
        let service = service();
        let response = answer(&service, mode, (0..5).map(user)).await.unwrap();
        assert_eq!(response.message.created_count, 5);
        assert!(response.message.user_ids.is_sorted());
        assert_eq!(stored(&service).await, 5);
    }
}

#[tokio::test]
async fn an_atomic_stream_with_a_message_that_is_not_valid_stores_nothing_and_names_it() {
    let service = service();
    let nobody = CreateUserRequest { name: "Nobody".into(), email: "nowhere".into() };
    let status = answer(&service, "atomic", [user(0), user(1), nobody, user(3)]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let detail: BadRequest = status.detail().unwrap();
    assert_eq!(detail.field_violations[0].field, "messages[2].email");
    assert_eq!(stored(&service).await, 0);
}

#[tokio::test]
async fn a_stream_that_is_too_long_leaves_what_its_mode_says() {
    for (mode, left) in [("chunked", 3), ("atomic", 0)] {
        let service = service().max_batch(3);
        let status = answer(&service, mode, (0..4).map(user)).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().ends_with(&format!("{left} users were created")), "{status:?}");
        assert_eq!(stored(&service).await, left);
    }
}

#[tokio::test]
async fn an_unknown_mode_is_refused() {
    let status = answer(&service(), "atmoic", [user(0)]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("atomic or chunked"), "{status:?}");
}

//! `CreateUsers` reports how many users are stored when it fails, and a key makes it repeatable.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use balafon::google::rpc::{ErrorInfo, RetryInfo};
use balafon::testing::{Requests, requests};
use balafon::{AsciiValue, Code, Request, Response, Status, Streaming};
use futures_util::Stream;
use user_server::domain::{NewUser, User, UserChange, UserId};
use user_server::pb::{CreateUserRequest, CreateUsersResponse, UserService};
use user_server::service::{IDEMPOTENCY_KEY, USERS_BATCH, USERS_FAILED, Users};
use user_server::store::ChangeListener;
use user_server::store::memory::MemoryStore;
use user_server::store::{Extent, IdempotencyKey, Page, Part, StoreError, Stored, UserStore};

const HOUR: Duration = Duration::from_secs(3600);

/// Users of a chunk.
const CHUNK: usize = 2;

/// A store whose creations fail after this many, until the test lets them succeed.
#[derive(Clone, Default)]
struct Failing {
    store: Arc<MemoryStore>,
    left: Arc<AtomicUsize>,
    /// Whether a failed creation is stored all the same.
    stores: bool,
    /// Whether the failure leaves the outcome unknown.
    unknown: bool,
}

impl Failing {
    fn after(creations: usize) -> Self {
        Self { left: Arc::new(creations.into()), ..Self::default() }
    }

    fn mend(&self) {
        self.left.store(usize::MAX / 2, Ordering::Relaxed);
    }

    fn service(&self) -> Users<Self> {
        Users::new(self.clone()).chunks(CHUNK, HOUR)
    }

    async fn total(&self) -> u64 {
        self.store.extent().await.unwrap().total
    }

    async fn outcome<T>(
        &self,
        creation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let works = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, works).is_ok() {
            return creation.await;
        }
        if self.stores {
            creation.await?;
        }
        Err(if self.unknown {
            StoreError::unknown("lost")
        } else {
            StoreError::unavailable("away")
        })
    }
}

impl UserStore for Failing {
    async fn create_one(
        &self,
        user: NewUser,
        key: Option<IdempotencyKey>,
        told: Option<ChangeListener>,
    ) -> Result<Arc<User>, StoreError> {
        self.outcome(self.store.create_one(user, key, told)).await
    }

    async fn create_many(
        &self,
        users: Vec<NewUser>,
        part: Option<Part>,
        told: Option<ChangeListener>,
    ) -> Result<Stored, StoreError> {
        self.outcome(self.store.create_many(users, part, told)).await
    }

    async fn get(&self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        self.store.get(id).await
    }

    async fn update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<Arc<User>>, StoreError> {
        self.outcome(self.store.update(id, change)).await
    }

    async fn extent(&self) -> Result<Extent, StoreError> {
        self.store.extent().await
    }

    fn scan(
        &self,
        after: Option<UserId>,
        extent: Extent,
    ) -> impl Stream<Item = Result<Page, StoreError>> + Send {
        self.store.scan(after, extent)
    }
}

fn user(n: usize) -> CreateUserRequest {
    CreateUserRequest { name: format!("User {n}"), email: "a@b.co".into() }
}

fn nobody() -> CreateUserRequest {
    CreateUserRequest { name: "Nobody".into(), email: "nowhere".into() }
}

fn call<T>(mode: &'static str, key: Option<&'static str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(&USERS_BATCH, AsciiValue::from_static(mode));
    if let Some(key) = key {
        request.metadata_mut().insert(&IDEMPOTENCY_KEY, AsciiValue::from_static(key));
    }
    request
}

type Answer = Result<Response<CreateUsersResponse>, Status>;

async fn create<S: UserStore>(
    service: &Users<S>,
    mode: &'static str,
    key: Option<&'static str>,
    users: impl IntoIterator<Item = CreateUserRequest>,
) -> Answer {
    service.create_users(call(mode, key, Streaming::from_messages(users))).await
}

fn info(status: &Status) -> ErrorInfo {
    status.detail().unwrap()
}

#[tokio::test]
async fn failure_after_chunks_reports_how_to_resume() {
    let store = Failing::after(2);
    let messages = [user(0), nobody(), user(1), user(2), user(3), user(4), user(5)];
    let status = create(&store.service(), "chunked", None, messages).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert!(status.detail::<RetryInfo>().is_none());
    let info = info(&status);
    assert_eq!(info.reason, "BATCH_INCOMPLETE");
    assert_eq!((&*info.metadata["created"], &*info.metadata["messages"]), ("4", "5"));
    assert!(status.message().contains("messages[5]"), "{status}");
    assert_eq!(store.total().await, 4);
}

#[tokio::test]
async fn failure_before_any_chunk_may_be_retried() {
    for mode in ["chunked", "atomic"] {
        let store = Failing::after(0);
        let status = create(&store.service(), mode, None, (0..5).map(user)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.detail::<RetryInfo>().is_some());
        assert_eq!(info(&status).metadata["created"], "0");
    }
}

#[tokio::test]
async fn lost_answer_is_reported_as_unknown() {
    for (mode, created, stores) in
        [("chunked", "2", true), ("atomic", "0", true), ("atomic", "0", false)]
    {
        let store = Failing {
            stores,
            unknown: true,
            ..Failing::after(if mode == "chunked" { 1 } else { 0 })
        };
        let status = create(&store.service(), mode, None, (0..5).map(user)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unknown);
        assert!(status.message().contains("unknown"), "{status}");
        assert!(status.detail::<RetryInfo>().is_none());
        let info = info(&status);
        assert_eq!(info.metadata["created"], created);
        assert_eq!(info.metadata["unknown"], if mode == "chunked" { "2" } else { "5" });
    }
    let store = Failing { unknown: true, ..Failing::after(0) };
    let (service, once) = (store.service(), call("atomic", Some("k"), user(0)));
    let status = service.create_user(Request::new(user(0))).await.unwrap_err();
    assert!(status.code() == Code::Unknown && status.detail::<RetryInfo>().is_none());
    let status = service.create_user(once).await.unwrap_err();
    assert!(status.code() == Code::Unavailable && status.detail::<RetryInfo>().is_some());
    assert!(status.message().contains("unknown"), "{status}");
}

#[tokio::test]
async fn key_repeated_is_answered_as_the_first_time() {
    for mode in ["chunked", "atomic"] {
        let store = Failing::default();
        store.mend();
        let first = create(&store.service(), mode, Some("k"), (0..5).map(user)).await.unwrap();
        for _ in 0..2 {
            let again = create(&store.service(), mode, Some("k"), (0..5).map(user)).await;
            assert_eq!(again.unwrap(), first, "{mode}");
        }
        assert_eq!(store.total().await, 5);
        // With another caller or without a key it is another stream.
        create(&store.service(), mode, Some("l"), (0..5).map(user)).await.unwrap();
        create(&store.service(), mode, None, (0..5).map(user)).await.unwrap();
        assert_eq!(store.total().await, 15);
    }
}

#[tokio::test]
async fn key_resumes_a_failed_stream() {
    for (mode, unknown, stores) in [
        ("chunked", false, false),
        ("chunked", true, true),
        ("chunked", true, false),
        ("atomic", true, true),
        ("atomic", true, false),
    ] {
        for works in 0..4 {
            let store = Failing { unknown, stores, ..Failing::after(works) };
            let messages = || [user(0), user(1), user(2), user(3), user(4), user(5), user(6)];
            let failed = create(&store.service(), mode, Some("k"), messages()).await;
            if let Err(status) = &failed {
                assert_eq!(status.code(), Code::Unavailable);
                assert!(status.detail::<RetryInfo>().is_some(), "{status}");
            }
            store.mend();
            // With chunks of another size.
            let service = store.service().chunks(3, HOUR);
            let answer = create(&service, mode, Some("k"), messages()).await.unwrap();
            assert_eq!(store.total().await, 7, "{mode} {works}");
            let names = answer.message.user_ids.iter().map(|id| UserId::parse(id).unwrap());
            for (n, id) in names.enumerate() {
                let found = store.get(id).await.unwrap().unwrap();
                assert_eq!(found.name, format!("User {n}"));
            }
        }
    }
}

#[tokio::test]
async fn key_resumes_a_stream_that_broke_off() {
    let store = Failing::default();
    store.mend();
    let (client, messages): (Requests<CreateUserRequest>, _) = requests();
    [user(0), nobody(), user(1), user(2)].iter().for_each(|user| client.send(user));
    drop(client);
    let broken = call("chunked", Some("k"), messages);
    assert_eq!(store.service().create_users(broken).await.unwrap_err().code(), Code::Cancelled);
    assert_eq!(store.total().await, 2);
    let messages = [user(0), nobody(), user(1), user(2), user(3)];
    let answer = create(&store.service(), "chunked", Some("k"), messages).await.unwrap();
    assert_eq!(answer.message.created_count, 4);
    assert_eq!(answer.trailers.get(&USERS_FAILED), Some("1"));
    assert_eq!(store.total().await, 4);
}

#[tokio::test]
async fn key_of_another_stream_is_refused() {
    for mode in ["chunked", "atomic"] {
        let store = Failing::default();
        store.mend();
        let service = store.service();
        create(&service, mode, Some("k"), (0..5).map(user)).await.unwrap();
        service.create_user(call(mode, Some("one"), user(0))).await.unwrap();
        let reversed = (0..5).rev().map(user).collect();
        let others = [
            ("k", (0..4).map(user).collect()),
            ("k", (0..6).map(user).collect()),
            ("k", (1..6).map(user).collect()),
            ("k", reversed),
            ("one", vec![user(0)]),
        ];
        for (key, users) in others {
            let users: Vec<CreateUserRequest> = users;
            let status = create(&service, mode, Some(key), users).await.unwrap_err();
            assert_eq!(status.code(), Code::FailedPrecondition);
            assert_eq!(info(&status).reason, "IDEMPOTENCY_KEY_REUSED");
            assert_eq!(store.total().await, 6);
        }
        let once = call(mode, Some("k"), user(0));
        assert_eq!(service.create_user(once).await.unwrap_err().code(), Code::FailedPrecondition);
    }
}

#[tokio::test]
async fn key_of_a_chunked_stream_cannot_become_atomic() {
    let store = Failing::after(1);
    create(&store.service(), "chunked", Some("k"), (0..5).map(user)).await.unwrap_err();
    store.mend();
    let status = create(&store.service(), "atomic", Some("k"), (0..5).map(user)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(store.total().await, 2);
}

#[tokio::test]
async fn key_of_concurrent_streams_creates_users_once() {
    let store = Failing::default();
    store.mend();
    let service = store.service();
    let (clients, mut calls) = ((0..3).map(|_| requests()), Vec::new());
    let (senders, messages): (Vec<_>, Vec<_>) = clients.unzip();
    for messages in messages {
        calls.push(service.create_users(call("chunked", Some("k"), messages)));
    }
    let send = async {
        // Now one stream is ahead, now the other.
        for turn in 0..12 {
            for n in 4 * (turn / 3)..4 * (turn / 3) + 4 {
                senders[(turn + turn / 3) % 3].send(&user(n));
                tokio::task::yield_now().await;
            }
        }
        senders.into_iter().for_each(Requests::half_close);
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(calls), send);
    let answers: Vec<_> = answers.into_iter().map(|it| it.unwrap().message).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.created_count == 16));
    assert_eq!(store.total().await, 16);
}

#[tokio::test]
async fn invalid_key_is_refused_in_both_modes() {
    let store = Failing::after(1);
    for mode in ["chunked", "atomic"] {
        let status = create(&store.service(), mode, Some(""), [user(0)]).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    assert_eq!(store.total().await, 0);
}

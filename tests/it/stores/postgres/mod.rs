//! The store in PostgreSQL beyond the contract: several servers on one database, and outages of the
//! database.

mod brought_in;
mod hosts;
mod metrics;
mod pooler;
mod rights;
mod trust;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balafon::Router;
use futures_util::{FutureExt, TryStreamExt};
use tokio::task::JoinSet;
use tokio::time::sleep;
use user_server::domain::{NewUser, UserChange};
use user_server::pb::{CreateUserRequest, UserService, UserUpdate, user_service};
use user_server::service::Users;
use user_server::store::postgres::{Options, PostgresStore};
use user_server::store::{PAGE_LEN, StoreError, UserStore};

use super::contract::{Place, contract, durable};
use crate::support::peer::{Peer, encoded, request};
use crate::support::postgres::{Postgres, own, shared};
use crate::support::{TestServer, patiently};

/// The timeout that the store sets.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// A pause in which a call proceeds.
const MOMENT: Duration = Duration::from_millis(1);

/// Makes a kind of statement take as long as its timeout allows.
fn slow(kind: &str) -> String {
    format!(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(3600); RETURN new; END';
        CREATE TRIGGER slowly BEFORE {kind} ON users FOR EACH ROW EXECUTE FUNCTION slowly()"
    )
}

struct InDatabase {
    server: Arc<Postgres>,
    options: Options,
}

impl InDatabase {
    async fn new() -> Option<Self> {
        Self::on(shared).await
    }

    /// On a server that no other test uses.
    async fn alone() -> Option<Self> {
        Self::on(own).await
    }

    async fn on(server: fn() -> Option<Arc<Postgres>>) -> Option<Self> {
        let server = tokio::task::spawn_blocking(server).await.unwrap()?;
        let options = Options { url: server.database(), tls: None, connections: 8 };
        Some(Self { server, options })
    }

    async fn try_open(&self) -> Result<PostgresStore, StoreError> {
        PostgresStore::connect(&self.options).await
    }

    /// The error of a start, which is also the error of a check.
    async fn refusal(options: &Options) -> String {
        let error = PostgresStore::connect(options).await.unwrap_err().to_string();
        assert_eq!(PostgresStore::inspect(options).await.unwrap_err().to_string(), error);
        error
    }

    fn run_sql(&self, sql: &str) -> String {
        let (_, database) = self.options.url.rsplit_once('/').unwrap();
        let (database, _) = database.split_once('?').unwrap_or((database, ""));
        self.server.run_sql(database, sql).unwrap()
    }

    /// The number of running statements that begin with this text.
    fn active(&self, statement: &str) -> usize {
        let count = self.run_sql(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'
                AND query LIKE '{statement}%' AND datname = current_database()"
        ));
        count.trim().parse().unwrap()
    }

    /// Drops a call in the middle of its statement. On a busy machine the database may seem to be
    /// away before: then the call is repeated.
    async fn abandon<T>(
        &self,
        statement: &str,
        mut call: impl AsyncFnMut() -> Result<T, StoreError>,
    ) {
        loop {
            let mut call = pin!(call());
            while self.active(statement) != 1 {
                match tokio::time::timeout(MOMENT, &mut call).await {
                    Err(_) => {}
                    Ok(Err(error)) if error.is_unavailable() => break,
                    Ok(_) => panic!("{statement} has ended"),
                }
            }
            if self.active(statement) == 1 {
                return;
            }
        }
    }

    /// Waits until no statement runs, which must happen before they time out.
    async fn cancelled(&self, statement: &str) {
        let started = Instant::now();
        while self.active(statement) > 0 {
            assert!(started.elapsed() < STATEMENT_TIMEOUT / 2, "{statement} goes on");
            tokio::task::yield_now().await;
        }
    }
}

impl Place for InDatabase {
    type Store = PostgresStore;

    async fn open(&self) -> PostgresStore {
        self.try_open().await.unwrap()
    }
}

contract!(InDatabase::new());
durable!(InDatabase::new());

fn alice() -> NewUser {
    NewUser::parse("Alice", "alice@example.com").unwrap()
}

#[tokio::test]
async fn schema_is_made_once_by_concurrent_servers() {
    let Some(place) = InDatabase::new().await else { return };
    let mut starting = JoinSet::new();
    for _ in 0..8 {
        let options = place.options.clone();
        starting.spawn(async move { PostgresStore::connect(&options).await.map(drop) });
    }
    for started in starting.join_all().await {
        started.unwrap();
    }
    assert_eq!(place.run_sql("SELECT count(*) FROM user_schema"), "1\n");
}

#[tokio::test]
async fn schema_of_a_newer_version_is_left_alone() {
    let Some(place) = InDatabase::new().await else { return };
    drop(place.open().await);
    place.run_sql("UPDATE user_schema SET version = 99");
    let error = place.try_open().await.unwrap_err().to_string();
    assert!(error.contains("schema version 99 of a newer program"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn users_of_several_servers_appear_in_id_order() {
    let Some(place) = InDatabase::new().await else { return };
    let mut creators = JoinSet::new();
    for _ in 0..3 {
        let store = Arc::new(place.open().await);
        for _ in 0..4 {
            let store = store.clone();
            creators.spawn(async move {
                for _ in 0..50 {
                    // On a loaded machine, the database may seem unavailable for a moment.
                    while let Err(error) = store.create(alice()).await {
                        assert!(error.is_unavailable(), "{error}");
                        sleep(Duration::from_millis(10)).await;
                    }
                }
            });
        }
    }
    let watcher = place.open().await;
    let (mut last, mut seen) = (None, 0);
    while seen < 600 {
        let mut scan = pin!(watcher.scan(last, watcher.extent().await.unwrap()));
        while let Some(page) = scan.try_next().await.unwrap() {
            seen += page.len();
            last = page.last();
        }
    }
    creators.join_all().await;
    assert_eq!(watcher.extent().await.unwrap().newest, last);
}

#[tokio::test]
async fn scan_cut_short_does_not_end_cleanly() {
    let Some(place) = InDatabase::new().await else { return };
    let store = place.open().await;
    store.create_all(vec![alice(); 4 * PAGE_LEN]).await.unwrap();
    let extent = store.extent().await.unwrap();
    // The reader runs on the caller's runtime.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut scan = pin!({
        let _inside = runtime.enter();
        store.scan(None, extent)
    });
    assert_eq!(scan.try_next().await.unwrap().unwrap().len(), PAGE_LEN);
    // Until its tasks are dropped: they must not go on reading.
    tokio::task::spawn_blocking(|| drop(runtime)).await.unwrap();
    let rest = async {
        while scan.try_next().await?.is_some() {}
        Ok::<_, StoreError>(())
    };
    assert!(patiently(rest).await.unwrap_err().is_internal());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_from_two_servers_lose_nothing() {
    let Some(place) = InDatabase::new().await else { return };
    let stores = [Arc::new(place.open().await), Arc::new(place.open().await)];
    let ids = Arc::new(stores[0].create_all(vec![alice(); 100]).await.unwrap());
    let mut updaters = JoinSet::new();
    // Each server owns one field, so only a lost change can put an old value back.
    for (server, store) in stores.iter().enumerate() {
        for worker in 0..4 {
            let (store, ids) = (store.clone(), ids.clone());
            updaters.spawn(async move {
                for round in 0..5 {
                    for id in ids.iter().skip(worker).step_by(4) {
                        let values = [format!("name {round}"), format!("a{round}@b.co")];
                        let change = match server {
                            0 => UserChange::parse(&values[0], ""),
                            _ => UserChange::parse("", &values[1]),
                        };
                        let user = store.update(*id, change.unwrap()).await.unwrap().unwrap();
                        let now = if server == 0 { &user.name } else { &user.email };
                        assert_eq!(*now, values[server]);
                    }
                }
            });
        }
    }
    updaters.join_all().await;
    for id in ids.iter() {
        let user = stores[0].get(*id).await.unwrap().unwrap();
        assert_eq!((&*user.name, &*user.email), ("name 4", "a4@b.co"));
    }
}

#[tokio::test]
async fn key_given_to_two_servers_is_one_creation() {
    use user_server::store::IdempotencyKey;
    let Some(place) = InDatabase::new().await else { return };
    let key = || IdempotencyKey { principal: String::new(), key: "k".into() };
    let (one, two) = (place.open().await, place.open().await);
    let (first, second) =
        tokio::join!(one.create_once(key(), alice()), two.create_once(key(), alice()));
    assert_eq!(first.unwrap(), second.unwrap());
}

#[tokio::test]
async fn statement_is_cancelled_with_its_call() {
    let Some(place) = InDatabase::new().await else { return };
    let store = place.open().await;
    let id = store.create(alice()).await.unwrap().id;
    place.run_sql(&slow("UPDATE"));
    let change = UserChange::parse("Bob", "").unwrap();
    place.abandon("UPDATE users", async || store.update(id, change.clone()).await).await;
    place.cancelled("UPDATE users").await;
    assert_eq!(store.get(id).await.unwrap().unwrap().name, "Alice");
}

#[tokio::test]
async fn statements_with_changed_types_are_prepared_again() {
    let Some(mut place) = InDatabase::new().await else { return };
    place.options.connections = 2;
    let store = place.open().await;
    let id = store.create(alice()).await.unwrap().id;
    let change = UserChange::parse("Bob", "").unwrap();
    for kind in ["varchar(1000)", "text"] {
        for _ in 0..4 {
            store.update(id, change.clone()).await.unwrap();
            store.get(id).await.unwrap();
        }
        place.run_sql(&format!("ALTER TABLE users ALTER name TYPE {kind}"));
        let outcomes = futures_util::future::join_all((0..4).map(|_| store.get(id))).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(store.update(id, change.clone()).await.unwrap().unwrap().name, "Bob");
        store.create(alice()).await.unwrap();
    }
    assert_eq!(store.extent().await.unwrap().total, 3);
}

#[tokio::test]
async fn statements_that_vanished_are_prepared_again() {
    let Some(mut place) = InDatabase::new().await else { return };
    place.options.connections = 1;
    let store = place.open().await;
    let id = store.create(alice()).await.unwrap().id;
    // As a pooler does between sessions, or an administrator.
    place.run_sql(
        "CREATE FUNCTION clean() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN DEALLOCATE ALL; RETURN NULL; END';
        CREATE TRIGGER clean AFTER INSERT OR UPDATE ON users EXECUTE FUNCTION clean()",
    );
    let change = UserChange::parse("Bob", "").unwrap();
    for round in 1..4 {
        store.update(id, change.clone()).await.unwrap();
        assert_eq!(store.get(id).await.unwrap().unwrap().name, "Bob");
        let ids = store.create_all(vec![alice(); 2]).await.unwrap();
        assert_eq!(ids.len(), 2);
        assert_eq!(store.extent().await.unwrap().total, 1 + 2 * round);
    }
}

#[tokio::test]
async fn scan_that_ended_keeps_its_connection() {
    let Some(mut place) = InDatabase::new().await else { return };
    place.options.connections = 1;
    let store = place.open().await;
    let ids = store.create_all(vec![alice(); 2 * PAGE_LEN]).await.unwrap();
    let extent = store.extent().await.unwrap();
    let backends = || {
        place.run_sql(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()
                AND application_name = 'user-server' ORDER BY pid",
        )
    };
    let before = backends();
    for round in 0..50 {
        let mut scan = pin!(store.scan(None, extent));
        for _ in 0..round {
            // Until the statement is at another stage, each time.
            let _ = scan.try_next().now_or_never();
            tokio::task::yield_now().await;
        }
    }
    assert!(store.get(ids[0]).await.unwrap().is_some());
    assert_eq!(backends(), before);
}

#[tokio::test]
async fn scans_leave_connections_to_points() {
    let Some(mut place) = InDatabase::new().await else { return };
    place.options.connections = 2;
    let store = place.open().await;
    let ids = store.create_all(vec![alice(); 10]).await.unwrap();
    let extent = store.extent().await.unwrap();
    // The first user is read at once, any other never.
    place.run_sql(&format!(
        "CREATE FUNCTION slowly(id uuid) RETURNS boolean LANGUAGE plpgsql COST 100000 AS
        'BEGIN IF id <> ''{}'' THEN PERFORM pg_sleep(3600); END IF; RETURN true; END';
        ALTER TABLE users RENAME TO kept;
        CREATE VIEW users AS SELECT * FROM kept WHERE slowly(id)",
        ids[0]
    ));
    let mut scans: Vec<_> = (0..10).map(|_| Box::pin(store.scan(None, extent))).collect();
    for scan in &mut scans {
        assert!(scan.try_next().now_or_never().is_none());
    }
    while place.active("SELECT id, name") == 0 {
        tokio::time::sleep(MOMENT).await;
    }
    assert!(patiently(store.get(ids[0])).await.unwrap().is_some());
    assert_eq!(place.active("SELECT id, name"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statement_timeout_follows_the_calls_deadline() {
    let Some(place) = InDatabase::new().await else { return };
    let store = place.open().await;
    let id = store.create(alice()).await.unwrap().id;
    place.run_sql(&slow("INSERT OR UPDATE"));
    let server = TestServer::start(Router::new().add(Users::new(store).into_service())).await;
    let peer = Peer::connect(server.addr).await;
    let user = CreateUserRequest { name: "Bob".into(), email: "b@c.de".into() };
    let update = UserUpdate { user_id: id.to_string(), name: "Bob".into(), email: String::new() };
    let (create, update) = (encoded(&user), encoded(&update));
    let mut calls = JoinSet::new();
    // More calls than connections: some wait for one.
    for number in 0..2 * place.options.connections {
        let (path, message) = match number % 4 {
            0 => (user_service::CREATE_USER.path, create.clone()),
            _ => (user_service::UPDATE_USERS.path, update.clone()),
        };
        let (mut peer, request) = (peer.clone(), request(path).header("grpc-timeout", "2S"));
        calls.spawn(async move { peer.call(request, message).await.grpc_status().to_owned() });
    }
    while place.active("UPDATE users") == 0 || place.active("INSERT INTO users") == 0 {
        assert!(calls.try_join_next().is_none(), "a call has ended early");
    }
    assert!(calls.join_all().await.iter().all(|status| status == "4"));
    place.cancelled("UPDATE users").await;
    place.cancelled("INSERT INTO users").await;
}

#[tokio::test]
async fn creations_without_a_waiting_client_are_cancelled() {
    let Some(place) = InDatabase::new().await else { return };
    let store = place.open().await;
    place.run_sql(&slow("INSERT"));
    let both = async || {
        let (one, all) = (store.create(alice()), store.create_all(vec![alice(); 2]));
        tokio::try_join!(one, all)
    };
    place.abandon("INSERT INTO users", both).await;
    place.cancelled("INSERT INTO users").await;
    place.run_sql("DROP TRIGGER slowly ON users");
    patiently(store.availability().wait_for(|available| *available)).await.unwrap();
    store.create(alice()).await.unwrap();
    assert_eq!(store.extent().await.unwrap().total, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_with_a_lost_answer_is_reported_unknown() {
    let Some(place) = InDatabase::alone().await else { return };
    let store = place.open().await;
    place.run_sql(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(3600); RETURN new; END';
        CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION slowly()",
    );
    let both = async { tokio::join!(store.create(alice()), store.create_all(vec![alice(); 2])) };
    let stop = async {
        while place.active("COMMIT") != 1 {
            tokio::task::yield_now().await;
        }
        place.server.stop();
    };
    let ((one, all), ()) = tokio::join!(both, stop);
    let errors = [one.unwrap_err(), all.unwrap_err()];
    // They may share a transaction, or one waits for the transaction of the other.
    assert!(errors.iter().any(|error| error.is_unknown()));
    assert!(errors.iter().all(|error| error.is_unknown() || error.is_unavailable()));
    // Users that were not about to be committed are not stored.
    assert!(store.create(alice()).await.unwrap_err().is_unavailable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outage_fails_calls_at_once_and_recovers() {
    let Some(place) = InDatabase::alone().await else { return };
    let store = place.open().await;
    let id = store.create(alice()).await.unwrap().id;
    let mut available = store.availability();
    assert!(*available.borrow_and_update());

    place.server.stop();
    patiently(available.wait_for(|available| !available)).await.unwrap();
    for _ in 0..100 {
        let started = Instant::now();
        assert!(store.get(id).await.unwrap_err().is_unavailable());
        assert!(store.create(alice()).await.unwrap_err().is_unavailable());
        assert!(started.elapsed() < Duration::from_millis(100));
    }

    place.server.resume();
    let back = Instant::now();
    patiently(available.wait_for(|available| *available)).await.unwrap();
    assert!(back.elapsed() < Duration::from_secs(2));
    assert_eq!(store.get(id).await.unwrap().unwrap().id, id);
    assert!(store.create(alice()).await.unwrap().id > id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_database_holds_no_call_and_recovers() {
    let Some(place) = InDatabase::alone().await else { return };
    let store = Arc::new(place.open().await);
    let id = store.create(alice()).await.unwrap().id;
    let mut available = store.availability();

    place.server.freeze();
    let mut calls = JoinSet::new();
    // More calls than connections: some wait for one.
    for _ in 0..2 * place.options.connections {
        let store = store.clone();
        calls.spawn(async move { store.get(id).await.map(drop) });
    }
    for _ in 0..2 {
        let store = store.clone();
        calls.spawn(async move { store.create(alice()).await.map(drop) });
    }
    for ended in patiently(calls.join_all()).await {
        assert!(ended.unwrap_err().is_unavailable());
    }
    assert!(!*available.borrow_and_update());

    place.server.wake();
    patiently(available.wait_for(|available| *available)).await.unwrap();
    assert_eq!(store.get(id).await.unwrap().unwrap().id, id);
    assert!(store.create(alice()).await.unwrap().id > id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_ended_connection_is_no_outage() {
    let Some(place) = InDatabase::new().await else { return };
    let store = place.open().await;
    let id = store.create(alice()).await.unwrap().id;
    let mut available = store.availability();
    available.mark_unchanged();
    for _ in 0..10 {
        place.run_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        assert!(store.get(id).await.is_ok());
        assert!(store.create(alice()).await.is_ok());
    }
    assert!(!available.has_changed().unwrap());
}

#[tokio::test]
async fn unreachable_database_is_a_clear_error() {
    let options = |url: &str| Options { url: url.into(), tls: None, connections: 1 };
    let nobody = options("postgres://me:hunter2@127.0.0.1:1/users");
    let error = PostgresStore::connect(&nobody).await.unwrap_err();
    assert!(error.is_unavailable() && !error.to_string().contains("hunter2"), "{error}");
    let plain = options("postgres://me:hunter2@127.0.0.1:1/users?sslmode=require");
    let error = PostgresStore::connect(&plain).await.unwrap_err().to_string();
    assert!(error.contains("needs a CA") && !error.contains("hunter2"), "{error}");
}

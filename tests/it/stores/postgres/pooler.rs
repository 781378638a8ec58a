//! PgBouncer between the server and the database, and session settings that a pooler resets.

use tokio::task::JoinSet;
use user_server::domain::UserChange;
use user_server::store::postgres::{Options, PostgresStore};
use user_server::store::{IdempotencyKey, UserStore};

use super::{InDatabase, Place, alice};
use crate::stores::contract::{contract, durable};
use crate::support::patiently;
use crate::support::pgbouncer::PgBouncer;

struct ThroughPooler {
    behind: InDatabase,
    options: Options,
    _pooler: PgBouncer,
}

impl ThroughPooler {
    async fn new(settings: &str) -> Option<Self> {
        let behind = InDatabase::new().await?;
        let (url, settings) = (behind.options.url.clone(), settings.to_owned());
        let start = move || PgBouncer::start(&url, &settings);
        let pooler = tokio::task::spawn_blocking(start).await.unwrap()?;
        let options = Options { url: pooler.url.clone(), ..behind.options.clone() };
        Some(Self { behind, options, _pooler: pooler })
    }
}

impl Place for ThroughPooler {
    type Store = PostgresStore;

    async fn open(&self) -> PostgresStore {
        PostgresStore::connect(&self.options).await.unwrap()
    }
}

contract!(ThroughPooler::new("pool_mode = transaction"));
durable!(ThroughPooler::new("pool_mode = transaction"));

/// More concurrent calls, of all kinds, than there are connections.
async fn all_calls_end_well(place: &impl Place<Store = PostgresStore>) {
    let store = std::sync::Arc::new(place.open().await);
    let mut calls = JoinSet::new();
    for number in 0..64 {
        let store = store.clone();
        calls.spawn(async move {
            for round in 0..10 {
                let key =
                    IdempotencyKey { principal: "p".into(), key: format!("{number}.{round}") };
                let user = store.create_once(key.clone(), alice()).await.unwrap();
                assert_eq!(store.create_once(key, alice()).await.unwrap(), user);
                let change = UserChange::parse("Bob", "").unwrap();
                store.update(user.id, change).await.unwrap().unwrap();
                assert_eq!(store.get(user.id).await.unwrap().unwrap().name, "Bob");
            }
        });
    }
    patiently(calls.join_all()).await;
    assert_eq!(store.extent().await.unwrap().total, 640);
    assert!(*store.availability().borrow());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_succeed_in_each_pool_mode() {
    for settings in [
        "pool_mode = transaction",
        "pool_mode = transaction\nignore_startup_parameters = options\ndefault_pool_size = 3",
        "pool_mode = session",
        "pool_mode = session\nignore_startup_parameters = options",
    ] {
        let Some(place) = ThroughPooler::new(settings).await else { return };
        all_calls_end_well(&place).await;
    }
}

#[tokio::test]
async fn too_few_sessions_are_refused_with_the_remedy() {
    let Some(place) = ThroughPooler::new("pool_mode = session\ndefault_pool_size = 4").await else {
        return;
    };
    let error = PostgresStore::connect(&place.options).await.unwrap_err().to_string();
    for part in ["all 10 connections", "default_pool_size", "pool_mode=transaction"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(error.contains("--store-connections"), "{error}");
}

#[tokio::test]
async fn statement_mode_is_refused() {
    let Some(place) = ThroughPooler::new("pool_mode = statement").await else { return };
    let error = InDatabase::refusal(&place.options).await;
    assert!(error.contains("statement pooling"), "{error}");
}

#[tokio::test]
async fn dropped_options_of_the_url_are_refused() {
    for settings in ["", "ignore_startup_parameters = options"] {
        let settings = format!("pool_mode = transaction\n{settings}");
        let Some(mut place) = ThroughPooler::new(&settings).await else { return };
        place.options.url += "?options=-c%20search_path%3Dapp";
        let error = InDatabase::refusal(&place.options).await;
        assert!(error.contains("remove options from the URL"), "{error}");
    }
}

/// Records the settings of each transaction that changes users.
const NOTE: &str = "CREATE TABLE noted (of text, settings text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO noted SELECT TG_OP, concat_ws('' '', current_setting(''statement_timeout''),
        current_setting(''lock_timeout''), current_setting(''idle_in_transaction_session_timeout''),
        current_setting(''transaction_isolation''), current_setting(''client_encoding''));
        RETURN NULL; END';
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON users FOR EACH STATEMENT EXECUTE FUNCTION note()";

/// The settings that the database would use without the store's own.
const DEFAULTS: [(&str, &str); 5] = [
    ("default_transaction_isolation", "serializable"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("client_encoding", "LATIN1"),
];

#[tokio::test]
async fn required_session_settings_are_kept() {
    let Some(direct) = InDatabase::new().await else { return };
    let Some(mut pooled) =
        ThroughPooler::new("pool_mode = transaction\nignore_startup_parameters = options").await
    else {
        return;
    };
    let mut optional = InDatabase::new().await.unwrap();
    let options = DEFAULTS.map(|(name, value)| format!("-c%20{name}%3D{value}")).join("%20");
    // The encoding is a parameter of its own.
    let (options, _) = options.rsplit_once("%20-c").unwrap();
    optional.options.url += &format!("?options={options}");
    let settings = std::mem::replace(&mut pooled.behind.options.url, pooled.options.url.clone());
    let places = [direct, optional, pooled.behind];
    for (place, direct) in places.iter().zip([None, None, Some(settings)]) {
        let url = direct.as_ref().unwrap_or(&place.options.url);
        let (_, database) = url.rsplit_once('/').unwrap();
        let (database, _) = database.split_once('?').unwrap_or((database, ""));
        for (name, value) in DEFAULTS {
            place.run_sql(&format!("ALTER DATABASE {database} SET {name} = '{value}'"));
        }
        let store = place.open().await;
        place.run_sql(NOTE);
        let user = store.create(alice()).await.unwrap();
        store.update(user.id, UserChange::parse("Юля", "").unwrap()).await.unwrap();
        assert_eq!(store.get(user.id).await.unwrap().unwrap().name, "Юля");
        assert_eq!(
            place.run_sql("SET client_encoding = UTF8; SELECT DISTINCT settings FROM noted"),
            "10s 5s 10s read committed UTF8\n"
        );
        assert_eq!(place.run_sql("SELECT DISTINCT of FROM noted ORDER BY of"), "INSERT\nUPDATE\n");
    }
}

#[tokio::test]
async fn database_encoding_other_than_utf8_is_refused() {
    let Some(mut place) = InDatabase::new().await else { return };
    let (address, name) = place.options.url.rsplit_once('/').unwrap();
    let latin = format!("{name}_latin1");
    place.run_sql(&format!("CREATE DATABASE {latin} ENCODING 'LATIN1' TEMPLATE template0"));
    place.options.url = format!("{address}/{latin}");
    let error = InDatabase::refusal(&place.options).await;
    assert!(error.contains("encoding LATIN1") && error.contains("ENCODING 'UTF8'"), "{error}");
}

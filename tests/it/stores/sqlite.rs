//! The store in a file beyond the contract: access by other processes, and disks that are full,
//! read-only or damaged.

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Waker};

use futures_util::TryStreamExt;
use rusqlite::Connection;
use user_server::domain::{NewUser, UserChange, UserId};
use user_server::store::sqlite::{Durability, SqliteStore};
use user_server::store::{Found, PAGE_LEN, Page, StoreError, UserStore};
use uuid::Uuid;

use super::contract::{Place, contract, durable};
use crate::support::folder::Folder;
use crate::support::patiently;

struct InFile {
    folder: Folder,
}

impl InFile {
    fn new() -> Self {
        Self { folder: Folder::new() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path("users.db")
    }

    fn try_open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(self.file(), Durability::Full)
    }

    /// The file as any SQLite program sees it.
    fn connection(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }
}

impl Place for InFile {
    type Store = SqliteStore;

    async fn open(&self) -> SqliteStore {
        self.try_open().unwrap()
    }
}

contract!(async { Some(InFile::new()) });
durable!(async { Some(InFile::new()) });

fn alice() -> NewUser {
    NewUser::parse("Alice", "alice@example.com").unwrap()
}

#[tokio::test]
async fn relaxed_durability_only_skips_the_fsync() {
    let place = InFile::new();
    let id = {
        let store = SqliteStore::open(place.file(), Durability::Relaxed).unwrap();
        store.create(alice()).await.unwrap().id
    };
    assert!(place.open().await.get(id).await.unwrap().is_some());
}

#[tokio::test]
async fn file_has_one_process_at_a_time() {
    let place = InFile::new();
    let first = place.open().await;
    let error = place.try_open().unwrap_err();
    assert!(error.is_unavailable());
    assert!(error.to_string().ends_with("users.db is in use by another process"), "{error}");
    drop(first);
    place.open().await;
}

#[tokio::test]
async fn file_lock_holds_under_any_name() {
    let place = InFile::new();
    let first = place.open().await;
    let link = place.folder.path("link.db");
    fs::hard_link(place.file(), &link).unwrap();
    let error = SqliteStore::open(&link, Durability::Full).unwrap_err();
    assert!(error.is_unavailable());
    assert!(error.to_string().contains("link.db is in use by another process"), "{error}");
    assert_eq!(SqliteStore::inspect(&link).unwrap(), Found::InUse);
    drop(first);
    place.open().await;
}

#[cfg(unix)]
#[test]
fn files_are_private_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let place = InFile::new();
    let _store = place.try_open().unwrap();
    for name in ["users.db", "users.db-lock", "users.db-wal", "users.db-shm"] {
        let mode = fs::metadata(place.folder.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn file_of_a_newer_version_is_left_alone() {
    let place = InFile::new();
    drop(place.try_open().unwrap());
    place.connection().pragma_update(None, "user_version", 99).unwrap();
    let error = place.try_open().unwrap_err().to_string();
    assert!(error.contains("schema version 99 of a newer program"), "{error}");
    let version = place.connection().pragma_query_value(None, "user_version", |row| row.get(0));
    assert_eq!(version, Ok(99));
}

#[test]
fn database_of_another_program_is_left_alone() {
    let place = InFile::new();
    place.connection().execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    let before = fs::read(place.file()).unwrap();
    let error = place.try_open().unwrap_err().to_string();
    assert!(error.contains("users.db is a database of another program"), "{error}");
    assert_eq!(fs::read(place.file()).unwrap(), before);
}

#[test]
fn file_that_is_no_database_is_left_alone() {
    let place = InFile::new();
    let letter = "Dear database, ".repeat(1000);
    fs::write(place.file(), &letter).unwrap();
    let error = place.try_open().unwrap_err();
    assert!(error.is_corrupt());
    assert!(error.to_string().contains("users.db: file is not a database"), "{error}");
    assert_eq!(fs::read_to_string(place.file()).unwrap(), letter);
}

#[test]
fn impossible_path_is_a_clear_error() {
    let place = InFile::new();
    let path = place.folder.path("no/such/folder/users.db");
    let error = SqliteStore::open(path, Durability::Full).unwrap_err();
    assert!(error.is_unavailable());
    assert!(error.to_string().contains("no/such/folder/users.db"), "{error}");
}

#[tokio::test]
async fn calls_wait_while_another_program_writes() {
    let place = InFile::new();
    let store = place.open().await;
    let other = place.connection();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut created = pin!(store.create(alice()));
    assert!(created.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(store.extent().await.unwrap().total, 0);
    other.execute_batch("ROLLBACK").unwrap();
    let id = patiently(created).await.unwrap().id;
    assert!(store.get(id).await.unwrap().is_some());
}

#[tokio::test]
async fn long_outside_reader_delays_no_call() {
    let place = InFile::new();
    let store = place.open().await;
    store.create(alice()).await.unwrap();
    let other = place.connection();
    let count = || other.query_row("SELECT count(*) FROM users", [], |row| row.get(0));
    other.execute_batch("BEGIN").unwrap();
    assert_eq!(count(), Ok(1));
    store.create_all(vec![alice(); 10_000]).await.unwrap();
    assert_eq!(count(), Ok(1));
}

#[tokio::test]
async fn moved_or_replaced_file_refuses_changes() {
    let place = InFile::new();
    let store = place.open().await;
    let mut total = 1;
    let id = store.create(alice()).await.unwrap().id;
    let elsewhere = place.folder.path("elsewhere");
    for name in ["users.db", "users.db-wal", "users.db-lock"] {
        fs::rename(place.folder.path(name), &elsewhere).unwrap();
        for replaced in [false, true] {
            if replaced {
                place.folder.write(name, "");
            }
            let refused = store.create(alice()).await.unwrap_err();
            assert!(refused.is_unavailable() && refused.to_string().contains(name), "{refused}");
            let change = UserChange::parse("Bob", "").unwrap();
            assert!(store.update(id, change).await.unwrap_err().is_unavailable());
        }
        fs::rename(&elsewhere, place.folder.path(name)).unwrap();
        total += 1;
        store.create(alice()).await.unwrap();
        assert_eq!(store.extent().await.unwrap().total, total);
    }
    drop(store);
    let store = place.open().await;
    assert_eq!(store.extent().await.unwrap().total, total);
    assert_eq!(store.get(id).await.unwrap().unwrap().name, "Alice");
}

#[cfg(unix)]
#[tokio::test]
async fn symbolic_link_leads_to_one_file() {
    let place = InFile::new();
    let id = place.open().await.create(alice()).await.unwrap().id;
    let link = place.folder.path("link.db");
    std::os::unix::fs::symlink(place.file(), &link).unwrap();
    let store = SqliteStore::open(&link, Durability::Full).unwrap();
    assert!(store.get(id).await.unwrap().is_some());
    store.create(alice()).await.unwrap();
    // One store has one lock, under any name.
    assert!(place.try_open().unwrap_err().to_string().contains("in use"));
}

/// The users after one, and the number of skipped users.
async fn listed(store: &SqliteStore, after: Option<UserId>) -> (Vec<UserId>, u64) {
    let pages: Vec<Page> =
        store.scan(after, store.extent().await.unwrap()).try_collect().await.unwrap();
    let ids = pages.iter().flat_map(Page::iter).map(|user| user.id).collect();
    (ids, pages.iter().map(Page::skipped).sum())
}

#[tokio::test]
async fn damaged_users_are_not_listed_and_counted() {
    let place = InFile::new();
    let store = place.open().await;
    let ids = store.create_all(vec![alice(); 2 * PAGE_LEN]).await.unwrap();
    // More than a page of damaged users in a row, with each kind of damage.
    let damaged = 1..PAGE_LEN + 10;
    for (column, value) in [
        ("status", "7"),
        ("name", "CAST(x'ff' AS TEXT)"),
        ("email", "CAST(x'c328' AS TEXT)"),
        ("created_nanos", "-1"),
        ("created_seconds", "9000000000000000000"),
    ] {
        let damage = format!("UPDATE users SET {column} = {value} WHERE id = ?1");
        for id in ids[damaged.clone()].iter().skip(column.len() % 5) {
            let id = *Uuid::from(*id).as_bytes();
            assert_eq!(place.connection().execute(&damage, [id]), Ok(1));
        }
    }
    let short = "INSERT INTO users VALUES (x'0102', 'Bob', 'b@b.co', 0, 0, 0)";
    assert_eq!(place.connection().execute(short, []), Ok(1));
    assert!(store.get(ids[1]).await.unwrap_err().is_corrupt());
    assert!(store.get(ids[0]).await.unwrap().is_some());

    let last = store.create(alice()).await.unwrap().id;
    let whole = [&ids[..damaged.start], &ids[damaged.end..], &[last]].concat();
    let (listed, skipped) = listed(&store, None).await;
    assert_eq!(listed, whole);
    assert_eq!(skipped, damaged.len() as u64 + 1);
    let total = store.extent().await.unwrap().total;
    assert_eq!(listed.len() as u64 + skipped, total);
}

#[tokio::test]
async fn imported_ids_are_listed_before_created_ones() {
    let place = InFile::new();
    let bring_in = |id: Uuid, seconds: i64| {
        let insert = "INSERT INTO users VALUES (?1, 'Bob', 'b@b.co', ?2, 0, 0)";
        let values = rusqlite::params![id.as_bytes(), seconds];
        assert_eq!(place.connection().execute(insert, values), Ok(1));
        UserId::from(id)
    };
    let mut created = {
        let store = place.open().await;
        store.create_all(vec![alice(); 3]).await.unwrap()
    };
    let mut brought_in = Vec::new();
    for (n, id) in [
        "f47ac10b-58cc-4372-a567-0e02b2c3d479", // version 4
        "00000000-0000-0000-0000-000000000000",
        "1ec9414c-232a-6b00-b3c8-9e6bdeced846", // version 6
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "ffffffff-ffff-7fff-bfff-ffffffffffff", // version 7, of the last millisecond that it can express
        "c232ab00-9414-11ec-b3c8-9f6bdeced846", // version 1
        "01a2035c-fbdf-44b5-ac2d-30dbfd63b6c3", // version 4, among the created ids
        "01a2035c-fbdf-74b5-0c2d-30dbfd63b6c3", // another variant
    ]
    .into_iter()
    .enumerate()
    {
        brought_in.push(bring_in(id.parse().unwrap(), n as i64 - 4));
    }
    // More than a page.
    for n in 0..PAGE_LEN {
        brought_in.push(bring_in(Uuid::from_u128(u128::MAX - 1 - n as u128), 1000 + n as i64));
    }
    // From a clock that was ahead.
    created.push(bring_in("0fffffff-ffff-7fff-bfff-ffffffffffff".parse().unwrap(), 0));

    let store = place.open().await;
    for round in 0..3 {
        let all = [&brought_in[..], &created].concat();
        assert_eq!(store.extent().await.unwrap().total, all.len() as u64);
        assert_eq!(listed(&store, None).await, (all.clone(), 0));
        for (position, id) in all.iter().enumerate().filter(|(n, _)| n % 100 < 12) {
            assert_eq!(listed(&store, Some(*id)).await.0, all[position + 1..]);
            assert!(store.get(*id).await.unwrap().is_some());
        }
        if round == 0 {
            created.push(store.create(alice()).await.unwrap().id);
        } else {
            // While the store is open: it notices this without a creation.
            brought_in.push(bring_in(Uuid::from_u128(round as u128), 10_000 + round));
            let total = (brought_in.len() + created.len()) as u64;
            patiently(async {
                while store.extent().await.unwrap().total != total {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    }
    // No user has this id: no imported user is missed.
    let unknown = UserId::from(Uuid::from_u128(99));
    assert!(listed(&store, Some(unknown)).await.0.starts_with(&brought_in));
}

#[tokio::test]
async fn damaged_file_is_reported() {
    let place = InFile::new();
    {
        let store = place.open().await;
        store.create_all(vec![alice(); 10_000]).await.unwrap();
    }
    // All pages but the first, which has the schema.
    let mut content = fs::read(place.file()).unwrap();
    content[4096..].fill(0x5a);
    fs::write(place.file(), content).unwrap();
    assert!(place.try_open().unwrap_err().is_corrupt());
}

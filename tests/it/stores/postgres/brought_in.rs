//! Rows that other programs have written: with ids of their own, or damaged.

use std::pin::pin;

use futures_util::TryStreamExt;
use user_server::domain::{NewUser, UserId};
use user_server::pb::user_service;
use user_server::store::{PAGE_LEN, UserStore};

use super::{InDatabase, Place, alice};
use crate::support::peer::{Peer, encoded, request};
use crate::support::program::Running;

/// The ids of all users after one, and the number of skipped users.
async fn list(store: &impl UserStore, after: Option<UserId>) -> (Vec<String>, u64) {
    let mut pages = pin!(store.scan(after, store.extent().await.unwrap()));
    let (mut ids, mut skipped) = (Vec::new(), 0);
    while let Some(page) = pages.try_next().await.unwrap() {
        ids.extend(page.iter().map(|user| user.id.to_string()));
        skipped += page.skipped();
    }
    (ids, skipped)
}

/// Asserts that all are listed and counted, and that a listing can resume after each of them.
async fn holds(store: &impl UserStore, ids: &[String]) {
    assert_eq!(list(store, None).await, (ids.to_vec(), 0));
    let extent = store.extent().await.unwrap();
    assert_eq!(extent.total, ids.len() as u64);
    assert_eq!(extent.newest.map(|id| id.to_string()).as_ref(), ids.last());
    for (position, id) in ids.iter().enumerate() {
        let (rest, _) = list(store, UserId::parse(id)).await;
        assert_eq!(rest, ids[position + 1..]);
    }
}

/// A statement that imports users with these ids, each created a second after the one before.
fn bring_in(ids: &[&str]) -> String {
    let row = |(second, id)| format!("('{id}', 'Bob', 'b@c.de', {second}, 0, 0)");
    let rows: Vec<_> = ids.iter().enumerate().map(row).collect();
    format!(
        "INSERT INTO users (id, name, email, created_seconds, created_nanos, status) VALUES {}",
        rows.join(", ")
    )
}

const HIGH: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
const LOW: &str = "007ac10b-58cc-4372-a567-0e02b2c3d479";
const MIDDLE: &str = "7a7ac10b-58cc-4372-a567-0e02b2c3d479";

async fn create(store: &impl UserStore, ids: &mut Vec<String>) {
    ids.push(store.create(alice()).await.unwrap().id.to_string());
}

#[tokio::test]
async fn imported_ids_are_listed_in_order_and_counted() {
    let Some(place) = InDatabase::new().await else { return };
    let (store, mut ids) = (place.open().await, Vec::new());
    place.run_sql(&bring_in(&[HIGH]));
    ids.push(HIGH.to_owned());
    holds(&store, &ids).await;
    for brought in [&[LOW, MIDDLE][..], &[]] {
        for _ in 0..2 {
            create(&store, &mut ids).await;
        }
        if !brought.is_empty() {
            place.run_sql(&bring_in(brought));
            ids.extend(brought.iter().map(|id| id.to_string()));
        }
        holds(&store, &ids).await;
    }
    // The same after a restart of the server, and on another server.
    let another = place.open().await;
    create(&another, &mut ids).await;
    create(&store, &mut ids).await;
    holds(&another, &ids).await;
    for id in [HIGH, LOW] {
        let user = store.get(UserId::parse(id).unwrap()).await.unwrap().unwrap();
        assert_eq!(user.name, "Bob");
    }

    place.run_sql(&format!("DELETE FROM users WHERE id IN ('{LOW}', '{}')", ids.last().unwrap()));
    ids.retain(|id| id != LOW);
    ids.pop();
    holds(&store, &ids).await;
    create(&store, &mut ids).await;
    holds(&store, &ids).await;
    place.run_sql("TRUNCATE users");
    holds(&store, &[]).await;
    let mut ids = Vec::new();
    create(&store, &mut ids).await;
    holds(&store, &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_imports_and_creations_are_all_listed() {
    let Some(place) = InDatabase::new().await else { return };
    let store = place.open().await;
    let created = async {
        for _ in 0..20 {
            store.create_all(vec![alice(); 50]).await.unwrap();
        }
    };
    let import = "INSERT INTO users SELECT gen_random_uuid(), 'Bob', 'b@c.de', number, 0, 0
        FROM generate_series(1, 500) AS number";
    let brought_in = async {
        for _ in 0..4 {
            tokio::task::block_in_place(|| place.run_sql(import));
        }
    };
    tokio::join!(created, brought_in);
    let (ids, skipped) = list(&store, None).await;
    assert_eq!((ids.len(), skipped), (3000, 0));
    assert_eq!(store.extent().await.unwrap().total, 3000);
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 3000);
}

/// The state that the version before this order has left.
const UNDO: &str = "DROP FUNCTION users_came CASCADE; DROP FUNCTION users_went CASCADE;
    ALTER TABLE users DROP COLUMN place;
    ALTER TABLE user_sequence DROP COLUMN last_place, DROP COLUMN present;
    UPDATE user_schema SET version = 3";

#[tokio::test]
async fn users_unlisted_by_an_older_version_are_listed() {
    let Some(place) = InDatabase::new().await else { return };
    let (store, mut ids) = (place.open().await, Vec::new());
    for _ in 0..3 {
        create(&store, &mut ids).await;
    }
    place.run_sql(UNDO);
    place.run_sql(&bring_in(&[MIDDLE, HIGH, LOW]));
    let store = place.open().await;
    // First in the former order of the list, then the unlisted users by time of creation.
    ids.insert(0, LOW.to_owned());
    ids.extend([MIDDLE, HIGH].map(str::to_owned));
    holds(&store, &ids).await;
    create(&store, &mut ids).await;
    holds(&store, &ids).await;
}

#[tokio::test]
async fn older_server_version_works_beside_a_newer_one() {
    let Some(place) = InDatabase::new().await else { return };
    let (store, mut ids) = (place.open().await, Vec::new());
    create(&store, &mut ids).await;
    // The statements of the older version.
    let old = UserId::from(uuid::Uuid::now_v7()).to_string();
    place.run_sql(&format!(
        "BEGIN; SELECT newest FROM user_sequence FOR UPDATE; {};
        UPDATE user_sequence SET newest = '{old}', total = total + 1; COMMIT",
        bring_in(&[&old])
    ));
    ids.push(old);
    holds(&store, &ids).await;
    create(&store, &mut ids).await;
    holds(&store, &ids).await;
    assert!(ids.is_sorted());
    assert_eq!(place.run_sql("SELECT newest, total FROM user_sequence"), format!("{}|3\n", ids[2]));
}

#[tokio::test]
async fn rows_copied_with_their_positions_cause_no_conflict() {
    let Some(place) = InDatabase::new().await else { return };
    let (store, mut ids) = (place.open().await, Vec::new());
    place.run_sql(&format!("INSERT INTO users VALUES ('{HIGH}', 'Bob', 'b@c.de', 1, 0, 0, 7)"));
    ids.push(HIGH.to_owned());
    create(&store, &mut ids).await;
    holds(&store, &ids).await;
}

#[tokio::test]
async fn damaged_rows_are_skipped_and_counted() {
    let Some(place) = InDatabase::new().await else { return };
    let store = place.open().await;
    let users: Vec<_> = (0..5 * PAGE_LEN)
        .map(|number| NewUser::parse(&format!("{number}"), "a@b.co").unwrap())
        .collect();
    let mut ids = store.create_all(users).await.unwrap();
    place.run_sql("ALTER TABLE users ALTER name DROP NOT NULL, ALTER status DROP NOT NULL");
    // More than a page of damaged rows, the first row and the last.
    place.run_sql(&format!(
        "UPDATE users SET status = 9 WHERE place BETWEEN {PAGE_LEN} AND {};
        UPDATE users SET name = NULL WHERE place = 1;
        UPDATE users SET status = NULL WHERE place = 3;
        UPDATE users SET created_nanos = -1 WHERE place = {}",
        3 * PAGE_LEN,
        5 * PAGE_LEN,
    ));
    let damaged = 2 * PAGE_LEN + 1 + 3;
    let (listed, skipped) = list(&store, None).await;
    assert_eq!(skipped, damaged as u64);
    assert_eq!(listed.len(), ids.len() - damaged);
    let total = ids.len();
    ids.drain(PAGE_LEN - 1..3 * PAGE_LEN);
    ids.remove(2);
    ids.remove(0);
    ids.pop();
    assert_eq!(listed, ids.iter().map(|id| id.to_string()).collect::<Vec<_>>());
    assert_eq!(store.extent().await.unwrap().total, total as u64);
}

#[tokio::test]
async fn damaged_user_is_logged_and_counted_in_the_trailers() {
    let Some(place) = InDatabase::new().await else { return };
    let ids = place.open().await.create_all(vec![alice(); 3]).await.unwrap();
    place.run_sql(&format!("UPDATE users SET status = 7 WHERE id = '{}'", ids[1]));
    let mut running = Running::start(&["--store", &place.options.url], &[]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    let reply = peer.call(request(user_service::GET_ALL_USERS.path), encoded(&())).await;
    assert_eq!(reply.grpc_status(), "0");
    assert_eq!(reply.headers["users-total"], "3");
    assert_eq!(reply.trailer("users-skipped"), Some("1"));
    let line = running.line_with("was left out");
    assert!(line.contains(&format!("user {} has an invalid status", ids[1])), "{line}");
}

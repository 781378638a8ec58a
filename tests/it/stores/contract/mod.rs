//! The contract of all stores: each rule of [`UserStore`] is a function that runs on an empty
//! [`Place`]. A store is held to it by a `Place` and the macro `contract!`; a store that outlives
//! its process uses `durable!` as well.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use futures_util::{FutureExt, Stream, TryStreamExt};
use tokio::task::JoinSet;
use user_server::domain::{
    MAX_EMAIL_BYTES, MAX_NAME_CHARS, NewUser, Timestamp, User, UserChange, UserId, UserStatus,
};
use user_server::store::{Extent, IdempotencyKey, Page, StoreError, UserStore};

pub use self::scans::*;
pub use self::streams::*;
use crate::support::{longest, patiently};

mod scans;
mod streams;

/// The place of a store's users: empty at first.
pub trait Place {
    type Store: UserStore;

    /// A store at this place. One store is open at a time, unless the place says otherwise.
    fn open(&self) -> impl Future<Output = Self::Store>;
}

/// Makes a test of each rule. The future returns a new place, or `None` where this store cannot
/// run.
macro_rules! contract {
    ($place:expr) => {
        $crate::stores::contract::rules! { $place;
            created_user_is_found_as_given
            ids_increase_in_order_of_creation
            new_users_never_appear_before_seen_ones
            unknown_id_finds_and_changes_nothing
            update_changes_only_the_named_fields
            concurrent_updates_of_one_user_lose_nothing
            extent_counts_users_and_names_the_newest
            scan_has_every_user_once_in_order
            scan_begins_after_any_id_up_to_its_extent
            scan_has_the_users_of_its_beginning
            scan_reads_only_a_few_pages_ahead
            scan_resumes_after_a_cancelled_wait
            scan_abandoned_halfway_leaves_the_store_unchanged
            stalled_scans_delay_no_call
            batch_is_stored_in_order
            batch_is_never_seen_in_part
            empty_batch_changes_nothing
            large_batch_is_atomic
            key_repeated_returns_the_first_answer
            key_for_another_user_is_refused
            keys_of_other_callers_are_independent
            key_used_concurrently_is_one_creation
            keyed_stream_resumes_where_it_stopped
            keyed_stream_repeated_gets_the_stored_users
            key_belongs_to_one_user_or_one_stream
            empty_stream_takes_no_key
            creator_gets_the_ids_before_they_are_visible
            names_and_addresses_of_every_script_are_kept
            longest_names_and_addresses_are_kept
            abandoned_creation_is_all_or_nothing
            concurrent_calls_are_all_answered
        }
    };
}
pub(super) use contract;

/// Makes a test of each rule for stores whose users outlive the process.
macro_rules! durable {
    ($place:expr) => {
        $crate::stores::contract::rules! { $place;
            reopened_store_has_its_users
            reopened_store_keeps_ids_increasing
            reopened_store_remembers_keys
            reopened_store_resumes_a_stream
        }
    };
}
pub(super) use durable;

macro_rules! rules {
    ($place:expr; $($rule:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $rule() {
            if let Some(place) = $place.await {
                $crate::support::patiently($crate::stores::contract::$rule(&place)).await;
            }
        }
    )*};
}
pub(super) use rules;

fn alice() -> NewUser {
    NewUser::parse("Alice", "alice@example.com").unwrap()
}

fn named(name: impl std::fmt::Display) -> NewUser {
    NewUser::parse(&format!("user {name}"), "a@b.co").unwrap()
}

fn change(name: &str, email: &str) -> UserChange {
    UserChange::parse(name, email).unwrap()
}

async fn all(store: &impl UserStore) -> Vec<User> {
    after(store, None).await
}

/// The current users with ids above `after`.
async fn after(store: &impl UserStore, after: Option<UserId>) -> Vec<User> {
    users(store.scan(after, store.extent().await.unwrap())).await
}

type Scanned = Result<Page, StoreError>;

async fn users(scan: impl Stream<Item = Scanned>) -> Vec<User> {
    let pages: Vec<Page> = scan.try_collect().await.unwrap();
    pages.iter().flat_map(Page::iter).map(User::into_owned).collect()
}

pub async fn created_user_is_found_as_given(place: &impl Place) {
    let store = place.open().await;
    let before = Timestamp::now();
    let user = store.create(alice()).await.unwrap();
    assert_eq!((&*user.name, &*user.email), ("Alice", "alice@example.com"));
    assert_eq!(user.status, UserStatus::Active);
    assert!((before..=Timestamp::now()).contains(&user.created_at));
    assert_eq!(store.get(user.id).await.unwrap(), Some(user.clone()));
    assert_eq!(all(&store).await, [(*user).clone()]);
}

pub async fn ids_increase_in_order_of_creation(place: &impl Place) {
    let store = Arc::new(place.open().await);
    let mut creators = JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        creators.spawn(async move {
            let mut ids = Vec::new();
            for n in 0..100 {
                ids.push(store.create(named(n)).await.unwrap().id);
            }
            ids
        });
    }
    let created = creators.join_all().await;
    assert!(created.iter().all(|ids| ids.is_sorted_by(|a, b| a < b)));
    let mut created = created.concat();
    created.sort();
    let stored: Vec<_> = all(&*store).await.iter().map(|user| user.id).collect();
    assert_eq!(stored, created);
}

pub async fn new_users_never_appear_before_seen_ones(place: &impl Place) {
    let store = Arc::new(place.open().await);
    let mut creators = JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        creators.spawn(async move {
            for n in 0..100 {
                store.create(named(n)).await.unwrap();
                store.create_all(vec![named(n); 3]).await.unwrap();
            }
        });
    }
    // Continues after the last seen id: a user that appeared before it would be missed.
    let (mut seen, mut last) = (0, None);
    while seen < 4 * 400 {
        let page = after(&*store, last).await;
        seen += page.len();
        last = page.last().map(|user| user.id).or(last);
        for user in &page {
            assert!(store.get(user.id).await.unwrap().is_some());
        }
    }
    creators.join_all().await;
    assert_eq!(store.extent().await.unwrap(), Extent { total: 1600, newest: last });
}

pub async fn unknown_id_finds_and_changes_nothing(place: &impl Place) {
    let store = place.open().await;
    for _ in 0..2 {
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "0190163d-8694-739b-aea5-966c26f8ad91",
        ] {
            let id = UserId::parse(text).unwrap();
            assert_eq!(store.get(id).await.unwrap(), None);
            assert_eq!(store.update(id, change("Bob", "")).await.unwrap(), None);
        }
        store.create(alice()).await.unwrap();
    }
    assert!(all(&store).await.iter().all(|user| user.name == "Alice"));
}

pub async fn update_changes_only_the_named_fields(place: &impl Place) {
    let store = place.open().await;
    let [before, other] = [store.create(alice()).await, store.create(alice()).await];
    let (before, other) = (before.unwrap(), other.unwrap());
    let mut expected = (*before).clone();
    for (name, email) in [("Bob", ""), ("", "bob@example.com"), ("", ""), ("B", "b@b.co")] {
        change(name, email).apply(&mut expected);
        let updated = store.update(before.id, change(name, email)).await.unwrap();
        assert_eq!(updated.as_deref(), Some(&expected));
        assert_eq!(store.get(before.id).await.unwrap(), updated);
    }
    assert_eq!(before.name, "Alice");
    assert_eq!(all(&store).await, [expected, (*other).clone()]);
}

pub async fn concurrent_updates_of_one_user_lose_nothing(place: &impl Place) {
    let store = Arc::new(place.open().await);
    let id = store.create(alice()).await.unwrap().id;
    // Each task owns one field, so only a lost change can put an old value back.
    let renamed = tokio::spawn({
        let store = store.clone();
        async move {
            for round in 0..300 {
                let name = format!("name {round}");
                store.update(id, change(&name, "")).await.unwrap();
                assert_eq!(store.get(id).await.unwrap().unwrap().name, name);
            }
        }
    });
    for round in 0..300 {
        let email = format!("a{round}@b.co");
        store.update(id, change("", &email)).await.unwrap();
        assert_eq!(store.get(id).await.unwrap().unwrap().email, email);
    }
    renamed.await.unwrap();
    let user = store.get(id).await.unwrap().unwrap();
    assert_eq!((&*user.name, &*user.email), ("name 299", "a299@b.co"));
}

pub async fn extent_counts_users_and_names_the_newest(place: &impl Place) {
    let store = place.open().await;
    assert_eq!(store.extent().await.unwrap(), Extent { total: 0, newest: None });
    for total in 1..=3 {
        let newest = Some(store.create(alice()).await.unwrap().id);
        assert_eq!(store.extent().await.unwrap(), Extent { total, newest });
    }
    let newest = store.create_all(vec![alice(); 2]).await.unwrap().pop();
    assert_eq!(store.extent().await.unwrap(), Extent { total: 5, newest });
}

pub async fn batch_is_stored_in_order(place: &impl Place) {
    let store = place.open().await;
    let first = store.create(alice()).await.unwrap().id;
    let ids = store.create_all((0..100).map(named).collect()).await.unwrap();
    assert!(first < ids[0] && ids.is_sorted_by(|a, b| a < b));
    assert!(store.create(alice()).await.unwrap().id > ids[99]);
    let stored = after(&store, Some(first)).await;
    for (n, (user, id)) in stored.iter().zip(ids).enumerate() {
        assert_eq!((&*user.name, user.id), (&*format!("user {n}"), id));
    }
    assert_eq!(stored.len(), 101);
}

pub async fn batch_is_never_seen_in_part(place: &impl Place) {
    // The number of users in each full page is a multiple of this.
    const LEN: usize = 16;
    const BATCHES: usize = 64;
    let store = Arc::new(place.open().await);
    let mut creators = JoinSet::new();
    for _ in 0..2 {
        let store = store.clone();
        creators.spawn(async move {
            for _ in 0..BATCHES {
                assert_eq!(store.create_all(vec![alice(); LEN]).await.unwrap().len(), LEN);
            }
        });
    }
    let any = UserId::parse("ffffffff-ffff-ffff-ffff-ffffffffffff").unwrap();
    let mut seen = 0;
    while seen < 2 * BATCHES * LEN {
        let Extent { total, .. } = store.extent().await.unwrap();
        assert_eq!(total % LEN as u64, 0);
        seen = 0;
        let mut scan = pin!(store.scan(None, Extent { total, newest: Some(any) }));
        while let Some(page) = scan.try_next().await.unwrap() {
            // A consistent snapshot.
            assert_eq!(page.len() % LEN, 0);
            seen += page.len();
        }
        assert!(seen as u64 >= total);
    }
    creators.join_all().await;
}

pub async fn empty_batch_changes_nothing(place: &impl Place) {
    let store = place.open().await;
    assert_eq!(store.create_all(Vec::new()).await.unwrap(), []);
    assert_eq!(store.extent().await.unwrap(), Extent { total: 0, newest: None });
}

pub async fn large_batch_is_atomic(place: &impl Place) {
    let store = place.open().await;
    let ids = store.create_all((0..10_000).map(named).collect()).await.unwrap();
    assert_eq!(ids.len(), 10_000);
    assert_eq!(all(&store).await.iter().map(|user| user.id).collect::<Vec<_>>(), ids);
}

fn key(principal: &str, key: &str) -> IdempotencyKey {
    IdempotencyKey { principal: principal.into(), key: key.into() }
}

pub async fn key_repeated_returns_the_first_answer(place: &impl Place) {
    let store = place.open().await;
    let first = store.create_once(key("", "k"), alice()).await.unwrap();
    assert_eq!(store.get(first.id).await.unwrap(), Some(first.clone()));
    for name in ["Bob", "Carol"] {
        store.update(first.id, change(name, "")).await.unwrap();
        assert_eq!(store.create_once(key("", "k"), alice()).await.unwrap(), first);
    }
    let extent = Extent { total: 1, newest: Some(first.id) };
    assert_eq!(store.extent().await.unwrap(), extent);
}

pub async fn key_for_another_user_is_refused(place: &impl Place) {
    let store = place.open().await;
    store.create_once(key("", "k"), alice()).await.unwrap();
    for (name, email) in [("Alice", "bob@example.com"), ("Bob", "alice@example.com")] {
        let other = NewUser::parse(name, email).unwrap();
        assert!(store.create_once(key("", "k"), other).await.unwrap_err().is_key_reused());
    }
    assert_eq!(store.extent().await.unwrap().total, 1);
}

pub async fn keys_of_other_callers_are_independent(place: &impl Place) {
    let store = place.open().await;
    let mut ids = HashSet::new();
    for (principal, name) in [("", "k"), ("", "l"), ("a", "k"), ("ak", ""), ("a", "K"), ("é", "k")]
    {
        ids.insert(store.create_once(key(principal, name), alice()).await.unwrap().id);
    }
    assert_eq!(ids.len(), 6);
}

pub async fn key_used_concurrently_is_one_creation(place: &impl Place) {
    let store = Arc::new(place.open().await);
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        callers.spawn(async move { store.create_once(key("", "k"), alice()).await.unwrap() });
    }
    let users = callers.join_all().await;
    assert!(users.iter().all(|user| *user == users[0]));
    assert_eq!(store.extent().await.unwrap().total, 1);
}

pub async fn reopened_store_remembers_keys(place: &impl Place) {
    let first = {
        let store = place.open().await;
        store.create_once(key("me", "k"), alice()).await.unwrap()
    };
    let store = place.open().await;
    assert_eq!(store.create_once(key("me", "k"), alice()).await.unwrap(), first);
    assert!(store.create_once(key("me", "k"), named("Bob")).await.unwrap_err().is_key_reused());
    assert_eq!(store.extent().await.unwrap().total, 1);
}

pub async fn names_and_addresses_of_every_script_are_kept(place: &impl Place) {
    let store = place.open().await;
    let names = [
        "Анна-Мария О'Нил",
        "山田太郎",
        "محمد عبد الله",
        "שרה \u{200f}(Sarah)",
        "नरेन्द्र",
        "👩‍👩‍👧 Family",
        "𠮷野家",
        "Zoë",
        "\u{fffd} \u{10ffff}",
        "Robert'); DROP TABLE users;--",
        "\\x00 %s $1 ?1 NULL",
    ];
    let emails = ["иван@почта.рф", "用户@例子.公司", "😀@b.co", "\"a@b..c\"@example.com"];
    for (name, email) in names.iter().zip(emails.iter().cycle()) {
        let user = store.create(NewUser::parse(name, email).unwrap()).await.unwrap();
        assert_eq!((&*user.name, &*user.email), (*name, *email));
        assert_eq!(store.get(user.id).await.unwrap(), Some(user.clone()));
        let updated = store.update(user.id, change(email, "")).await.unwrap().unwrap();
        assert_eq!(updated.name, *email);
        assert_eq!(store.get(user.id).await.unwrap(), Some(updated));
    }
    // NUL, which some stores cannot keep, is not allowed in a name; characters that look like it
    // are.
    assert!(NewUser::parse("a\0b", "a@b.co").is_err());
    assert!(store.create(NewUser::parse("a\u{2400}b", "a@b.co").unwrap()).await.is_ok());
}

pub async fn longest_names_and_addresses_are_kept(place: &impl Place) {
    let store = place.open().await;
    let [name, email] = longest();
    assert_eq!(name.chars().count(), MAX_NAME_CHARS);
    assert_eq!(email.len(), MAX_EMAIL_BYTES);
    let longest = NewUser::parse(&name, &email).unwrap();
    let ids = store.create_all(vec![longest; 300]).await.unwrap();
    let users = all(&store).await;
    assert_eq!(users.len(), ids.len());
    assert!(users.iter().all(|user| user.name == name && user.email == email));
}

pub async fn abandoned_creation_is_all_or_nothing(place: &impl Place) {
    let store = place.open().await;
    let mut waited_for = 0;
    for _ in 0..50 {
        if let Some(created) = store.create_all(vec![alice(); 7]).now_or_never() {
            waited_for += created.unwrap().len();
        }
    }
    store.create_all(vec![named("last"); 7]).await.unwrap();
    let users = all(&store).await;
    assert_eq!(users.len() % 7, 0);
    assert!(users.len() >= waited_for + 7);
    assert_eq!(users.len() as u64, store.extent().await.unwrap().total);
}

pub async fn concurrent_calls_are_all_answered(place: &impl Place) {
    let store = Arc::new(place.open().await);
    let first = store.create(alice()).await.unwrap().id;
    let mut callers = JoinSet::new();
    for n in 0..512 {
        let store = store.clone();
        callers.spawn(async move {
            let id = store.create(named(n)).await.unwrap().id;
            assert!(store.update(first, change(&format!("by {n}"), "")).await.unwrap().is_some());
            assert_eq!(store.get(id).await.unwrap().unwrap().name, format!("user {n}"));
            id
        });
    }
    let ids: HashSet<_> = patiently(callers.join_all()).await.into_iter().collect();
    assert_eq!(ids.len(), 512);
    assert_eq!(store.extent().await.unwrap().total, 513);
}

pub async fn reopened_store_has_its_users(place: &impl Place) {
    let before = {
        let store = place.open().await;
        let ids = store.create_all((0..300).map(named).collect()).await.unwrap();
        store.update(ids[7], change("Анна", "")).await.unwrap();
        let _ = store.create(alice()).await.unwrap();
        (all(&store).await, store.extent().await.unwrap())
    };
    for _ in 0..2 {
        let store = place.open().await;
        assert_eq!((all(&store).await, store.extent().await.unwrap()), before);
    }
    assert_eq!(before.0[7].name, "Анна");
}

pub async fn reopened_store_keeps_ids_increasing(place: &impl Place) {
    let mut newest = None;
    for opened in 1..=5 {
        let store = place.open().await;
        let id = store.create(alice()).await.unwrap().id;
        assert!(Some(id) > newest);
        newest = Some(id);
        assert_eq!(store.extent().await.unwrap(), Extent { total: opened, newest });
    }
}

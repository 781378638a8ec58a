#![allow(clippy::unwrap_used)]

use super::*;
use futures_util::{FutureExt, TryStreamExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;
use uuid::Uuid;

/// The output of a future of this store.
fn ready<F: Future>(future: F) -> F::Output {
    future.now_or_never().expect("it is ready immediately")
}

fn add(store: &MemoryStore) -> Arc<User> {
    ready(store.create(NewUser::parse("Alice", "a@b.co").unwrap())).unwrap()
}

fn get(store: &MemoryStore, id: UserId) -> Option<Arc<User>> {
    ready(store.get(id)).unwrap()
}

/// All users above `after`.
fn scan(store: &MemoryStore, after: Option<UserId>) -> Vec<UserId> {
    let extent = Extent { newest: Some(Uuid::max().into()), total: 0 };
    let pages: Vec<Page> = ready(store.scan(after, extent).try_collect()).unwrap();
    pages.iter().flat_map(Page::iter).map(|user| user.id).collect()
}

fn rename(store: &MemoryStore, id: UserId, name: &str) -> Option<Arc<User>> {
    ready(store.update(id, UserChange::parse(name, "").unwrap())).unwrap()
}

#[test]
fn memory_finds_users_on_every_page() {
    let store = MemoryStore::new();
    let ids: Vec<_> = (0..2 * PAGE_LEN + 1).map(|_| add(&store).id).collect();
    assert!(ids.iter().all(|id| get(&store, *id).is_some_and(|user| user.id == *id)));
    assert_eq!(scan(&store, None), ids);
    assert_eq!(scan(&store, Some(ids[PAGE_LEN - 2])), ids[PAGE_LEN - 1..]);
    let extent = Extent { total: ids.len() as u64, newest: ids.last().copied() };
    assert_eq!(ready(store.extent()).unwrap(), extent);
}

#[test]
fn memory_scan_after_the_newest_is_empty() {
    let store = MemoryStore::new();
    let newest = add(&store).id;
    let extent = ready(store.extent()).unwrap();
    for after in [newest, Uuid::max().into()] {
        let pages: Vec<Page> = ready(store.scan(Some(after), extent).try_collect()).unwrap();
        assert!(pages.is_empty());
    }
    assert!(scan(&MemoryStore::new(), None).is_empty());
}

#[test]
fn memory_scan_begins_with_short_pages() {
    let store = MemoryStore::new();
    (0..4 * PAGE_LEN).for_each(|_| drop(add(&store)));
    let extent = ready(store.extent()).unwrap();
    let pages: Vec<Page> = ready(store.scan(None, extent).try_collect()).unwrap();
    let lens: Vec<_> = pages.iter().map(Page::len).collect();
    assert_eq!(lens, [64, 128, 256, 512, 1024, 1024, 1024, 64]);
}

#[test]
fn memory_that_is_full_serves_its_users() {
    let store = MemoryStore::with_limit(1);
    let user = add(&store);
    let bob = NewUser::parse("Bob", "b@b.co").unwrap();
    assert!(ready(store.create(bob.clone())).unwrap_err().is_full());
    assert!(ready(store.create_all(vec![bob])).unwrap_err().is_full());
    assert_eq!(ready(store.extent()).unwrap().total, 1);
    assert!(rename(&store, user.id, "Bob").is_some());
}

#[test]
fn memory_ids_increase_across_threads() {
    let store = MemoryStore::new();
    let created: Vec<Vec<UserId>> = thread::scope(|scope| {
        let create = || (0..2_000).map(|_| add(&store).id).collect();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(created.iter().all(|ids| ids.is_sorted_by(|a, b| a < b)));
    let scanned = scan(&store, None);
    assert!(scanned.is_sorted_by(|a, b| a < b));
    let mut created = created.concat();
    created.sort();
    assert_eq!(scanned, created);
}

#[test]
fn memory_finds_each_user_that_a_scan_has_shown() {
    let store = MemoryStore::new();
    thread::scope(|scope| {
        let creator = scope.spawn(|| (0..5_000).for_each(|_| drop(add(&store))));
        let mut last = None;
        loop {
            let done = creator.is_finished();
            let extent = ready(store.extent()).unwrap();
            assert!(extent.newest.is_none_or(|id| get(&store, id).is_some()));
            for id in scan(&store, last) {
                assert!(get(&store, id).is_some());
                last = Some(id);
            }
            if done && last == extent.newest {
                assert_eq!(extent.total, 5_000);
                break;
            }
        }
    });
}

#[test]
fn memory_updates_never_lose_a_field() {
    // Enough rounds for two threads of a busy machine to run at the same time.
    const ROUNDS: usize = 40_000;
    let store = MemoryStore::new();
    let id = add(&store).id;
    let start = Barrier::new(2);
    // Each thread owns one field: only a lost change can restore an old value.
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            for round in 0..ROUNDS {
                let name = format!("name {round}");
                rename(&store, id, &name);
                assert_eq!(get(&store, id).unwrap().name, name);
            }
        });
        start.wait();
        for round in 0..ROUNDS {
            let email = format!("a{round}@b.co");
            ready(store.update(id, UserChange::parse("", &email).unwrap())).unwrap();
            assert_eq!(get(&store, id).unwrap().email, email);
        }
    });
}

#[test]
fn memory_reads_do_not_wait_for_creations() {
    let store = MemoryStore::new();
    let [other, id] = [0, 1].map(|_| add(&store).id);
    let _creating = store.creations.lock().unwrap();
    assert!(get(&store, id).is_some());
    assert!(rename(&store, id, "Bob").is_some());
    assert_eq!(scan(&store, Some(other)), [id]);
    assert_eq!(ready(store.extent()).unwrap().total, 2);
}

#[test]
fn memory_scan_holds_no_lock_between_pages() {
    let store = MemoryStore::new();
    (0..2 * PAGE_LEN).for_each(|_| drop(add(&store)));
    let extent = ready(store.extent()).unwrap();
    let mut pages = std::pin::pin!(store.scan(None, extent));
    assert!(ready(pages.try_next()).unwrap().is_some());
    assert!(store.users.try_write().is_ok());
    add(&store);
    let mut last = None;
    while let Some(page) = ready(pages.try_next()).unwrap() {
        last = page.last();
    }
    assert_eq!(last, extent.newest, "the scan ends with the users of its beginning");
}

#[test]
fn memory_stays_usable_after_a_panic_under_its_locks() {
    let store = MemoryStore::new();
    let id = add(&store).id;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _creating = store.creations.lock().unwrap();
        let _changing = store.users.write().unwrap();
        panic!("on purpose");
    }));
    assert!(panicked.is_err() && store.creations.is_poisoned());
    assert!(add(&store).id > id);
    assert_eq!(rename(&store, id, "Bob"), get(&store, id));
}

#[test]
fn memory_debug_output_has_no_users() {
    let store = MemoryStore::default();
    add(&store);
    assert_eq!(format!("{store:?}"), "MemoryStore { users: 1, .. }");
}

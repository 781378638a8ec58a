//! Users in memory, for the lifetime of the process: for tests and trials.
//!
//! ```text
//!  create ── Mutex: the next id, the key ──> RwLock: list of users, sorted by id
//!                                                  ^
//!  get, update, extent, scan page by page ─────────'
//! ```
//!
//! Ids increase in order of creation, so a new user goes to the end of the list. A creation that waits for the
//! mutex does not block reads. The lock of the list is never held while a page is sent.

mod keys;
mod users;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures_util::{Stream, stream};

use self::keys::Keys;
use self::users::Users;
use super::{
    Creation, Extent, FIRST_PAGE_LEN, IdSequence, IdempotencyKey, Known, PAGE_LEN, Page, Part,
    Remembered, StoreError, Stored, UserStore, forgotten, notify,
};
use crate::domain::{NewUser, Timestamp, User, UserChange, UserId};
use crate::store::ChangeListener;

/// A [`UserStore`] that loses its users when it is dropped. Its futures are ready immediately.
pub struct MemoryStore {
    users: RwLock<Users>,
    /// Locked for a whole creation, and before `users`: so ids appear in their order.
    creations: Mutex<Creations>,
    limit: usize,
}

/// What a creation needs besides the users.
#[derive(Default)]
struct Creations {
    ids: IdSequence,
    keys: Keys,
}

impl MemoryStore {
    /// An empty store for as many users as fit into memory.
    pub fn new() -> Self {
        Self::with_limit(usize::MAX)
    }

    /// An empty store that is full when it has `limit` users, so that creations cannot use up the memory of
    /// the machine. A user takes about 200 bytes, plus its name and address.
    pub fn with_limit(limit: usize) -> Self {
        Self { users: RwLock::default(), creations: Mutex::default(), limit }
    }

    // No panic can leave the data half changed, so poisoned locks are harmless.

    fn creations(&self) -> MutexGuard<'_, Creations> {
        self.creations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self) -> RwLockReadGuard<'_, Users> {
        self.users.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn users_mut(&self) -> RwLockWriteGuard<'_, Users> {
        self.users.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores users so that readers see all of them at once. Returns their ids.
    fn add(
        &self,
        ids: &mut IdSequence,
        users: Vec<NewUser>,
        listener: Option<&ChangeListener>,
    ) -> Result<Vec<UserId>, StoreError> {
        let users = self.identified(ids, users, listener)?;
        let ids = users.iter().map(|user| user.id).collect();
        self.users_mut().extend(users);
        Ok(ids)
    }

    fn add_one(
        &self,
        ids: &mut IdSequence,
        user: NewUser,
        listener: Option<&ChangeListener>,
    ) -> Result<Arc<User>, StoreError> {
        let users = self.identified(ids, vec![user], listener)?;
        let user = users.first().cloned();
        self.users_mut().extend(users);
        user.ok_or_else(|| StoreError::internal("no user was created"))
    }

    /// Gives ids to users, if the store has room for them.
    fn identified(
        &self,
        ids: &mut IdSequence,
        users: Vec<NewUser>,
        listener: Option<&ChangeListener>,
    ) -> Result<Vec<Arc<User>>, StoreError> {
        // Only creations add users, so the number cannot grow before the insertion.
        let room = self.limit.saturating_sub(self.users().len());
        if users.len() > room {
            return Err(StoreError::full(format!("it may have {} users", self.limit)));
        }
        let now = Timestamp::now();
        let mut created = Vec::with_capacity(users.len());
        for user in users {
            let user = Arc::new(user.into_user(ids.next(now), now));
            notify(listener, user.id);
            created.push(user);
        }
        Ok(created)
    }

    /// The next page: up to `len` users above `after`, up to `newest`.
    fn page(&self, after: Option<UserId>, newest: UserId, len: usize) -> Vec<Arc<User>> {
        self.users().range(after, newest).take(len).cloned().collect()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("users", &self.users().len()).finish_non_exhaustive()
    }
}

impl UserStore for MemoryStore {
    async fn create_one(
        &self,
        user: NewUser,
        key: Option<IdempotencyKey>,
        listener: Option<ChangeListener>,
    ) -> Result<Arc<User>, StoreError> {
        let listener = listener.as_ref();
        let mut creations = self.creations();
        let Creations { ids, keys } = &mut *creations;
        let Some(key) = key else { return self.add_one(ids, user, listener) };
        keys.forget(forgotten(Timestamp::now()));
        if let Some(kept) = keys.recall(&key) {
            let user = kept.what.answer(user)?;
            notify(listener, user.id);
            return Ok(Arc::new(user));
        }
        let user = self.add_one(ids, user, listener)?;
        keys.keep(key, Remembered::One(Creation::of(&user)), &[], user.created_at);
        Ok(user)
    }

    async fn create_many(
        &self,
        users: Vec<NewUser>,
        part: Option<Part>,
        listener: Option<ChangeListener>,
    ) -> Result<Stored, StoreError> {
        let listener = listener.as_ref();
        let mut creations = self.creations();
        let Creations { ids, keys } = &mut *creations;
        let Some(part) = part else {
            return Ok(Stored::Now(self.add(ids, users, listener)?));
        };
        keys.forget(forgotten(Timestamp::now()));
        let kept = keys.recall(&part.key);
        let progress = kept.map(|kept| kept.what.stream()).transpose()?;
        if !part.follows(progress) {
            let ids = kept.map(|kept| kept.ids.clone()).unwrap_or_default();
            return Ok(Stored::Before(Known::new(ids, progress)));
        }
        if users.is_empty() && kept.is_none() {
            return Ok(Stored::Now(Vec::new()));
        }
        let created = self.add(ids, users, listener)?;
        let progress = Remembered::Stream(part.progress());
        keys.keep(part.key, progress, &created, Timestamp::now());
        Ok(Stored::Now(created))
    }

    async fn get(&self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        Ok(self.users().get(id).cloned())
    }

    async fn update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<Arc<User>>, StoreError> {
        let mut users = self.users_mut();
        let Some(user) = users.get_mut(id) else { return Ok(None) };
        // In place, unless a reader still has the user as it was.
        change.apply(Arc::make_mut(user));
        Ok(Some(Arc::clone(user)))
    }

    async fn extent(&self) -> Result<Extent, StoreError> {
        let users = self.users();
        Ok(Extent { total: users.len() as u64, newest: users.newest() })
    }

    fn scan(
        &self,
        after: Option<UserId>,
        extent: Extent,
    ) -> impl Stream<Item = Result<Page, StoreError>> + Send {
        let (mut last, mut len) = (after, FIRST_PAGE_LEN);
        stream::iter(std::iter::from_fn(move || {
            let users = self.page(last, extent.newest?, len);
            last = Some(users.last()?.id);
            len = PAGE_LEN.min(2 * len);
            Some(Ok(Page::Shared(users)))
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
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
}

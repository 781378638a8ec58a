//! Users in memory, for as long as the process lives.
//!
//! One structure does everything: a log of the users in order of creation. As ids increase in that
//! order, the log is its own index (by binary search, about a microsecond among millions), and a
//! user that a scan can see is found by id at once.
//!
//! ```text
//!  create ── Mutex ──> append: slot, then len          get, scan, extent: no lock on the log
//!                         |                               |
//!            root [1024] ─> middle [1024] ─> leaf [1024] ─> Record { id, RwLock<Arc<User>> }
//! ```
//!
//! Slots are filled once and never move, so readers take no lock to reach a record, whatever is
//! being created, and the log grows by a leaf at a time without copying. Only an update and the
//! reads of the very same user share a lock.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use futures_util::{Stream, StreamExt, stream};

use super::{
    Creation, Extent, IdSequence, IdempotencyKey, Known, PAGE_LEN, Page, Part, Remembered,
    StoreError, Stored, UserStore, forgotten, notify,
};
use crate::domain::{NewUser, Timestamp, User, UserChange, UserId};
use crate::store::ChangeListener;

/// How many entries a table of the log has: a leaf is then 48 KiB, which takes microseconds to set
/// up, and three levels hold 2^30 users, more than fit in the memory of today's machines.
const FANOUT: usize = 1 << FANOUT_BITS;
const FANOUT_BITS: u32 = 10;

/// How many users there can be at most in any [`MemoryStore`].
const CAPACITY: usize = FANOUT * FANOUT * FANOUT;

/// A [`UserStore`] whose users are gone when it is dropped. Its futures are ready at once.
pub struct MemoryStore {
    log: Log,
    /// Locked while a user is appended: the log has one writer at a time, and is sorted by id.
    ids: Mutex<IdSequence>,
    /// Locked before the ids, if both are.
    keys: Mutex<Keys>,
    limit: usize,
}

impl MemoryStore {
    /// An empty store, for as many users as memory can hold.
    pub fn new() -> Self {
        Self::with_limit(CAPACITY)
    }

    /// An empty store that is full when it has `limit` users, so that creations cannot use up the
    /// memory of the machine. A user takes about 200 bytes and its name and address.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            log: Log::new(),
            ids: Mutex::default(),
            keys: Mutex::default(),
            limit: limit.min(CAPACITY),
        }
    }

    fn ids(&self) -> MutexGuard<'_, IdSequence> {
        // The sequence is whole between any two of its steps, so a poisoned lock is as good.
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        // A key is whole between any two steps, too.
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.forget(forgotten(Timestamp::now()));
        keys
    }

    fn add(
        &self,
        user: NewUser,
        listener: Option<&ChangeListener>,
    ) -> Result<Arc<User>, StoreError> {
        let mut ids = self.ids();
        self.check_room_for(1)?;
        let now = Timestamp::now();
        let user = Arc::new(user.into_user(ids.next(now), now));
        notify(listener, user.id);
        self.log.append([Arc::clone(&user)])?;
        Ok(user)
    }

    fn add_all(
        &self,
        users: Vec<NewUser>,
        listener: Option<&ChangeListener>,
    ) -> Result<Vec<UserId>, StoreError> {
        let mut ids = self.ids();
        self.check_room_for(users.len())?;
        let now = Timestamp::now();
        let mut created = Vec::with_capacity(users.len());
        self.log.append(users.into_iter().map(|user| {
            let user = user.into_user(ids.next(now), now);
            notify(listener, user.id);
            created.push(user.id);
            Arc::new(user)
        }))?;
        Ok(created)
    }

    /// What it says holds for as long as the ids are locked.
    fn check_room_for(&self, count: usize) -> Result<(), StoreError> {
        if self.limit - self.log.len() < count {
            return Err(StoreError::full(format!("it may have {} users", self.limit)));
        }
        Ok(())
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("users", &self.log.len()).finish_non_exhaustive()
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
        let Some(key) = key else { return self.add(user, listener) };
        let mut keys = self.keys();
        if let Some(kept) = keys.recall(&key) {
            let user = kept.what.answer(user)?;
            notify(listener, user.id);
            return Ok(Arc::new(user));
        }
        let user = self.add(user, listener)?;
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
        let Some(part) = part else { return Ok(Stored::Now(self.add_all(users, listener)?)) };
        let mut keys = self.keys();
        let kept = keys.recall(&part.key);
        let progress = kept.map(|kept| kept.what.stream()).transpose()?;
        if !part.follows(progress) {
            let ids = kept.map(|kept| kept.ids.clone()).unwrap_or_default();
            return Ok(Stored::Before(Known::new(ids, progress)));
        }
        if users.is_empty() && kept.is_none() {
            return Ok(Stored::Now(Vec::new()));
        }
        let ids = self.add_all(users, listener)?;
        let progress = Remembered::Stream(part.progress());
        keys.keep(part.key, progress, &ids, Timestamp::now());
        Ok(Stored::Now(ids))
    }

    async fn get(&self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        Ok(self.log.find(id).map(Record::user))
    }

    async fn update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<Arc<User>>, StoreError> {
        Ok(self.log.find(id).map(|record| record.update(&change)))
    }

    async fn extent(&self) -> Result<Extent, StoreError> {
        let len = self.log.len();
        let newest = len.checked_sub(1).and_then(|last| self.log.record(last));
        Ok(Extent { total: len as u64, newest: newest.map(|record| record.id) })
    }

    fn scan(
        &self,
        after: Option<UserId>,
        extent: Extent,
    ) -> impl Stream<Item = Result<Page, StoreError>> + Send {
        let first = after.map_or(0, |after| self.log.count_while(|id| id <= after));
        let end = extent.newest.map_or(0, |newest| self.log.count_while(|id| id <= newest));
        stream::iter((first..end).step_by(PAGE_LEN)).map(move |first| {
            let records = (first..end).map_while(|position| self.log.record(position));
            Ok(Page::Shared(records.take(PAGE_LEN).map(Record::user).collect()))
        })
    }
}

/// How many old keys a new one makes room for: more than one, so that they are gone in time, and few,
/// so that no call waits while thousands are forgotten that have grown old in the same second.
const FORGOTTEN_AT_ONCE: usize = 2;

/// What was created with a key, and the order in which it was.
#[derive(Default)]
struct Keys {
    kept: HashMap<IdempotencyKey, Kept>,
    /// With the second since which each is kept, as far as is known here. A key that was used again
    /// after its time is here twice.
    by_age: VecDeque<(i64, IdempotencyKey)>,
    /// What is of this second or before it counts no more.
    forgotten: i64,
}

struct Kept {
    what: Remembered,
    /// Of the users of a stream.
    ids: Vec<UserId>,
    at: Timestamp,
}

impl Kept {
    fn counts(&self, forgotten: i64) -> bool {
        self.at.seconds() > forgotten
    }
}

impl Keys {
    /// Remembers what was created, or what it is with these users as well.
    fn keep(&mut self, key: IdempotencyKey, what: Remembered, ids: &[UserId], at: Timestamp) {
        let forgotten = self.forgotten;
        if let Some(kept) = self.kept.get_mut(&key).filter(|kept| kept.counts(forgotten)) {
            (kept.what, kept.at) = (what, at);
            kept.ids.extend_from_slice(ids);
            return;
        }
        self.by_age.push_back((at.seconds(), key.clone()));
        self.kept.insert(key, Kept { what, ids: ids.to_vec(), at });
    }

    fn recall(&self, key: &IdempotencyKey) -> Option<&Kept> {
        self.kept.get(key).filter(|kept| kept.counts(self.forgotten))
    }

    /// Forgets what was created in this second or before it: some of it now, the rest with the next
    /// keys. If the clock steps back, some are remembered for longer.
    fn forget(&mut self, second: i64) {
        self.forgotten = second;
        for _ in 0..FORGOTTEN_AT_ONCE {
            if self.by_age.front().is_none_or(|(since, _)| *since > second) {
                return;
            }
            let Some((_, key)) = self.by_age.pop_front() else { return };
            match self.recall(&key).map(|kept| kept.at.seconds()) {
                // A stream that has gone on since, or another creation.
                Some(since) => self.by_age.push_back((since, key)),
                None => {
                    self.kept.remove(&key);
                }
            }
        }
    }
}

/// A user in the log. The id is here too, so that a search reads nothing but records.
struct Record {
    id: UserId,
    /// Replaced as a whole, so a poisoned lock still has a whole user.
    user: RwLock<Arc<User>>,
}

impl Record {
    fn user(&self) -> Arc<User> {
        Arc::clone(&self.user.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn update(&self, change: &UserChange) -> Arc<User> {
        let mut user = self.user.write().unwrap_or_else(PoisonError::into_inner);
        *user = Arc::new(change.apply(&user));
        Arc::clone(&user)
    }
}

/// Records in order of their ids. Any number of threads read while one appends.
struct Log {
    root: Table<Table<Table<Record>>>,
    /// How many slots are filled. Stored (release) after the slot, loaded (acquire) before it: a
    /// reader that counts a record finds it.
    len: AtomicUsize,
}

impl Log {
    fn new() -> Self {
        Self { root: Table::new(), len: AtomicUsize::new(0) }
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    fn record(&self, position: usize) -> Option<&Record> {
        self.leaf(position)?.slot(position % FANOUT)?.get()
    }

    /// The leaf with the slot of a position.
    fn leaf(&self, position: usize) -> Option<&Table<Record>> {
        let [root, middle, _] = path(position);
        self.root.slot(root)?.get()?.slot(middle)?.get()
    }

    /// Appends users that are seen all at once. The caller makes sure that it is the only one, that
    /// the ids are greater than all before, and that there is room.
    fn append(&self, users: impl IntoIterator<Item = Arc<User>>) -> Result<(), StoreError> {
        let mut position = self.len();
        for user in users {
            let [root, middle, leaf] = path(position);
            let middle_table = self.root.slot(root).map(|slot| slot.get_or_init(Table::new));
            let leaf_table = middle_table.and_then(|table| table.slot(middle));
            let slot = leaf_table.and_then(|slot| slot.get_or_init(Table::new).slot(leaf));
            let slot = slot.ok_or_else(|| StoreError::full("no slot is left"))?;
            let record = Record { id: user.id, user: RwLock::new(user) };
            slot.set(record).map_err(|_| StoreError::internal("the next slot is taken"))?;
            position += 1;
        }
        self.len.store(position, Ordering::Release);
        Ok(())
    }

    fn find(&self, id: UserId) -> Option<&Record> {
        let position = self.count_while(|other| other < id);
        // Behind `len` there may be a record by now, but it is newer than any id known to a caller.
        self.record(position).filter(|record| record.id == id)
    }

    /// How many records come before the first whose id is not `below`, by binary search: for the
    /// leaf, then inside it, where a step is one look into memory rather than three.
    fn count_while(&self, below: impl Fn(UserId) -> bool) -> usize {
        let len = self.len();
        let (mut low, mut high) = (0, len.div_ceil(FANOUT));
        while low < high {
            let middle = low.midpoint(high);
            if self.record(middle * FANOUT).is_some_and(|record| below(record.id)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(leaf) = low.checked_sub(1) else { return 0 };
        let before = leaf * FANOUT;
        let slots = self.leaf(before).map_or(&[][..], |leaf| &leaf.0);
        let filled = &slots[..slots.len().min(len - before)];
        before + filled.partition_point(|slot| slot.get().is_some_and(|record| below(record.id)))
    }
}

/// The indices that lead to a position, from the root down.
fn path(position: usize) -> [usize; 3] {
    let mask = FANOUT - 1;
    // The root's index is not masked: a position past the capacity has no slot.
    [position >> (2 * FANOUT_BITS), (position >> FANOUT_BITS) & mask, position & mask]
}

/// A fixed number of slots, each filled at most once.
struct Table<T>(Box<[OnceLock<T>]>);

impl<T> Table<T> {
    fn new() -> Self {
        Self((0..FANOUT).map(|_| OnceLock::new()).collect())
    }

    fn slot(&self, index: usize) -> Option<&OnceLock<T>> {
        self.0.get(index)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Mark, Progress};
    use super::*;
    use futures_util::{FutureExt, TryStreamExt};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::thread;
    use uuid::Uuid;

    /// The output of a future of this store.
    fn ready<F: Future>(future: F) -> F::Output {
        future.now_or_never().expect("it is ready at once")
    }

    fn add(store: &MemoryStore) -> Arc<User> {
        ready(store.create(NewUser::parse("Alice", "a@b.co").unwrap())).unwrap()
    }

    fn get(store: &MemoryStore, id: UserId) -> Option<Arc<User>> {
        ready(store.get(id)).unwrap()
    }

    /// Up to whatever is there.
    fn scan(store: &MemoryStore, after: Option<UserId>) -> Vec<UserId> {
        let extent = Extent { newest: Some(Uuid::max().into()), total: 0 };
        let pages: Vec<Page> = ready(store.scan(after, extent).try_collect()).unwrap();
        pages.iter().flat_map(Page::iter).map(|user| user.id).collect()
    }

    fn key(n: usize) -> IdempotencyKey {
        IdempotencyKey { principal: String::new(), key: n.to_string() }
    }

    fn keep(keys: &mut Keys, n: usize, second: i64) {
        let at = Timestamp::new(second, 0).unwrap();
        let progress = Progress { mark: Mark::START, ended: true };
        keys.keep(key(n), Remembered::Stream(progress), &[Uuid::max().into()], at);
    }

    #[test]
    fn idempotency_keys_that_expire_at_once_are_forgotten_a_few_at_a_time() {
        const MANY: usize = 1000;
        let mut keys = Keys::default();
        (0..MANY).for_each(|n| keep(&mut keys, n, 1));
        for forgotten in 1..=MANY / FORGOTTEN_AT_ONCE {
            keys.forget(1);
            assert_eq!(keys.kept.len(), MANY - forgotten * FORGOTTEN_AT_ONCE);
            // Those that are still there are over all the same.
            assert!(keys.recall(&key(MANY - 1)).is_none());
        }
        assert!(keys.by_age.is_empty());
    }

    #[test]
    fn an_idempotency_key_that_is_used_again_after_its_time_is_remembered_anew() {
        let mut keys = Keys::default();
        keep(&mut keys, 0, 1);
        // Not yet forgotten, but over.
        keys.forgotten = 1;
        keep(&mut keys, 0, 2);
        keep(&mut keys, 1, 3);
        keys.forget(1);
        assert_eq!(keys.recall(&key(0)).unwrap().ids.len(), 1);
        (0..2).for_each(|_| keys.forget(3));
        assert!(keys.kept.is_empty() && keys.by_age.is_empty());
    }

    #[test]
    fn an_idempotency_key_of_a_stream_is_kept_from_its_last_part_on() {
        let mut keys = Keys::default();
        keep(&mut keys, 0, 1);
        keep(&mut keys, 0, 5);
        keys.forget(4);
        assert_eq!(keys.recall(&key(0)).unwrap().ids.len(), 2);
        keys.forget(5);
        assert!(keys.kept.is_empty() && keys.by_age.is_empty());
    }

    fn rename(store: &MemoryStore, id: UserId, name: &str) -> Option<Arc<User>> {
        ready(store.update(id, UserChange::parse(name, "").unwrap())).unwrap()
    }

    #[test]
    fn users_are_found_in_every_leaf_of_the_log() {
        let store = MemoryStore::new();
        let ids: Vec<_> = (0..2 * FANOUT + 1).map(|_| add(&store).id).collect();
        assert!(ids.iter().all(|id| get(&store, *id).is_some_and(|user| user.id == *id)));
        assert_eq!(scan(&store, None), ids);
        assert_eq!(scan(&store, Some(ids[FANOUT - 2])), ids[FANOUT - 1..]);
        let extent = Extent { total: ids.len() as u64, newest: ids.last().copied() };
        assert_eq!(ready(store.extent()).unwrap(), extent);
    }

    #[test]
    fn a_position_is_a_path_of_three_indices_and_the_last_is_the_capacity() {
        assert_eq!(path(0), [0, 0, 0]);
        assert_eq!(path(FANOUT), [0, 1, 0]);
        assert_eq!(path(FANOUT * FANOUT - 1), [0, FANOUT - 1, FANOUT - 1]);
        assert_eq!(path(FANOUT * FANOUT), [1, 0, 0]);
        assert_eq!(path(CAPACITY - 1), [FANOUT - 1; 3]);
        assert!(Log::new().record(CAPACITY).is_none());
    }

    #[test]
    fn a_full_store_takes_no_user_and_serves_those_it_has() {
        let store = MemoryStore::with_limit(1);
        let user = add(&store);
        let bob = NewUser::parse("Bob", "b@b.co").unwrap();
        assert!(ready(store.create(bob.clone())).unwrap_err().is_full());
        assert!(ready(store.create_all(vec![bob])).unwrap_err().is_full());
        assert_eq!(ready(store.extent()).unwrap().total, 1);
        assert!(rename(&store, user.id, "Bob").is_some());
    }

    #[test]
    fn ids_increase_in_order_of_creation_across_threads() {
        let store = MemoryStore::new();
        let created: Vec<Vec<UserId>> = thread::scope(|scope| {
            let create = || (0..2_000).map(|_| add(&store).id).collect();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(created.iter().all(|ids| ids.is_sorted_by(|a, b| a < b)));
        let log = scan(&store, None);
        assert!(log.is_sorted_by(|a, b| a < b));
        let mut created = created.concat();
        created.sort();
        assert_eq!(log, created);
    }

    #[test]
    fn a_user_that_a_scan_or_the_extent_shows_is_found_by_id_at_once() {
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
    fn concurrent_updates_of_one_user_never_lose_a_field() {
        // Enough for two threads of a busy machine to run at the same time for a while.
        const ROUNDS: usize = 40_000;
        let store = MemoryStore::new();
        let id = add(&store).id;
        let start = Barrier::new(2);
        // Each thread owns one field: nothing but a lost change can put an old value back.
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
    fn reads_wait_neither_for_creations_nor_for_updates_of_other_users() {
        let store = MemoryStore::new();
        let [busy, id] = [0, 1].map(|_| add(&store).id);
        let _creating = store.ids.lock().unwrap();
        let _updating = store.log.find(busy).unwrap().user.write().unwrap();
        assert!(get(&store, id).is_some());
        assert!(rename(&store, id, "Bob").is_some());
        assert_eq!(scan(&store, Some(busy)), [id]);
        assert_eq!(ready(store.extent()).unwrap().total, 2);
    }

    #[test]
    fn a_panic_under_a_lock_leaves_the_store_usable() {
        let store = MemoryStore::new();
        let id = add(&store).id;
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _ids = store.ids.lock().unwrap();
            let _user = store.log.find(id).unwrap().user.write().unwrap();
            panic!("on purpose");
        }));
        assert!(panicked.is_err() && store.ids.is_poisoned());
        assert!(add(&store).id > id);
        assert_eq!(rename(&store, id, "Bob"), get(&store, id));
    }

    #[test]
    fn debug_output_does_not_list_the_users() {
        let store = MemoryStore::default();
        add(&store);
        assert_eq!(format!("{store:?}"), "MemoryStore { users: 1, .. }");
    }
}

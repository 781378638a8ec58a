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
#[cfg(test)]
mod tests;
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

//! A store that does not grow: the seeded users, and the latest of those created since. Every user that a load creates
//! would otherwise be memory that the server touches for the first time, which the system provides at a price that
//! varies more than the servers do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{Stream, StreamExt, stream};
use user_server::domain::{NewUser, Timestamp, User, UserChange, UserId};
use user_server::store::memory::MemoryStore;
use user_server::store::{
    ChangeListener, Extent, IdSequence, IdempotencyKey, Page, Part, StoreError, Stored, UserStore,
};

/// How many created users are kept.
const KEPT: usize = 4096;

#[derive(Debug)]
pub struct BoundedStore {
    seeded: MemoryStore,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    ids: IdSequence,
    /// By id.
    users: VecDeque<Arc<User>>,
}

impl BoundedStore {
    /// A store that keeps all of `seeded`, the last of which is `newest`.
    #[must_use]
    pub fn new(seeded: MemoryStore, newest: UserId) -> Self {
        let users = VecDeque::with_capacity(KEPT);
        Self { seeded, latest: Mutex::new(Latest { ids: IdSequence::resume(newest), users }) }
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    fn create(&mut self, user: NewUser) -> Arc<User> {
        if self.users.len() == KEPT {
            self.users.pop_front();
        }
        let now = Timestamp::now();
        let user = Arc::new(user.into_user(self.ids.next(now), now));
        self.users.push_back(Arc::clone(&user));
        user
    }

    fn find(&mut self, id: UserId) -> Option<&mut Arc<User>> {
        let index = self.users.binary_search_by_key(&id, |user| user.id).ok()?;
        self.users.get_mut(index)
    }
}

impl UserStore for BoundedStore {
    /// Whoever sends a key is none of the loads.
    async fn create_one(
        &self,
        user: NewUser,
        _: Option<IdempotencyKey>,
        _: Option<ChangeListener>,
    ) -> Result<Arc<User>, StoreError> {
        Ok(self.latest().create(user))
    }

    async fn create_many(
        &self,
        users: Vec<NewUser>,
        _: Option<Part>,
        _: Option<ChangeListener>,
    ) -> Result<Stored, StoreError> {
        let mut latest = self.latest();
        Ok(Stored::Now(users.into_iter().map(|user| latest.create(user).id).collect()))
    }

    async fn get(&self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        match self.seeded.get(id).await? {
            None => Ok(self.latest().find(id).cloned()),
            seeded => Ok(seeded),
        }
    }

    async fn update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<Arc<User>>, StoreError> {
        if self.seeded.get(id).await?.is_some() {
            return self.seeded.update(id, change).await;
        }
        Ok(self.latest().find(id).map(|user| {
            change.apply(Arc::make_mut(user));
            Arc::clone(user)
        }))
    }

    async fn extent(&self) -> Result<Extent, StoreError> {
        let seeded = self.seeded.extent().await?;
        let latest = &self.latest().users;
        let newest = latest.back().map(|user| user.id).or(seeded.newest);
        Ok(Extent { total: seeded.total + latest.len() as u64, newest })
    }

    fn scan(
        &self,
        after: Option<UserId>,
        extent: Extent,
    ) -> impl Stream<Item = Result<Page, StoreError>> + Send {
        let latest = stream::once(async move {
            let latest = &self.latest().users;
            let first = after.map_or(0, |after| latest.partition_point(|user| user.id <= after));
            let wanted = latest.range(first..).take_while(|user| Some(user.id) <= extent.newest);
            Ok(Page::Shared(wanted.cloned().collect()))
        });
        self.seeded.scan(after, extent).chain(latest)
    }
}

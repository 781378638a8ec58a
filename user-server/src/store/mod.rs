//! Stores of users: the trait, and the parts that several stores share.

use std::sync::Arc;

use futures_util::Stream;
use prometheus::core::Collector;
use tokio::sync::watch;

pub use self::error::StoreError;
use self::idempotency::{Creation, Progress, Remembered, forgotten};
pub use self::idempotency::{IdempotencyKey, Known, Mark, Part, Stored};
pub use self::ids::IdSequence;
pub use self::listener::ChangeListener;
pub use self::page::{FIRST_PAGE_LEN, PAGE_LEN, Packed, Page};
use crate::domain::{NewUser, User, UserChange, UserId};

mod availability;
mod error;
mod idempotency;
mod ids;
mod listener;
pub mod memory;
pub mod metrics;
mod page;
pub mod postgres;
pub mod sqlite;
mod write_queue;

/// Stores users. A store never deletes a user. The contract tests in `tests/it/stores/contract/` apply to every
/// store.
///
/// Users appear in order of their ids: once any method has shown a user, no user with a smaller id appears later.
/// So a [`scan`](Self::scan) with any number of pauses misses no user.
///
/// A future may be dropped at any time, because its call has ended. A change has then happened completely or not
/// at all.
pub trait UserStore: Send + Sync + 'static {
    /// Stores a new user with a new id, greater than all earlier ids. If the key was used before, within a day, it
    /// stores nothing. It returns the user as it was created then, without later changes.
    ///
    /// When the future is ready, the user is as durable as the store can make it, and every other method sees
    /// it. `listener` receives the id before the user is stored. So the owner of a dropped future knows which
    /// users may be stored.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`]. Only after [unknown](StoreError::is_unknown) the user may be stored.
    /// [Key reused](StoreError::is_key_reused) if the key was used for another creation.
    fn create_one(
        &self,
        user: NewUser,
        key: Option<IdempotencyKey>,
        listener: Option<ChangeListener>,
    ) -> impl Future<Output = Result<Arc<User>, StoreError>> + Send;

    /// Stores new users in one step, with increasing new ids: either all or none. No other method ever sees only
    /// some of them. Returns their ids in the same order. The users of a stream with a key are stored only if
    /// `part` is the next part of the stream.
    ///
    /// # Errors
    ///
    /// Those of [`create_one`](Self::create_one), for all of them.
    fn create_many(
        &self,
        users: Vec<NewUser>,
        part: Option<Part>,
        listener: Option<ChangeListener>,
    ) -> impl Future<Output = Result<Stored, StoreError>> + Send;

    /// As [`create_one`](Self::create_one), without a key.
    ///
    /// # Errors
    ///
    /// Those of [`create_one`](Self::create_one).
    fn create(&self, user: NewUser) -> impl Future<Output = Result<Arc<User>, StoreError>> + Send {
        self.create_one(user, None, None)
    }

    /// As [`create_one`](Self::create_one), with a key.
    ///
    /// # Errors
    ///
    /// Those of [`create_one`](Self::create_one).
    fn create_once(
        &self,
        key: IdempotencyKey,
        user: NewUser,
    ) -> impl Future<Output = Result<Arc<User>, StoreError>> + Send {
        self.create_one(user, Some(key), None)
    }

    /// As [`create_many`](Self::create_many), without a stream.
    ///
    /// # Errors
    ///
    /// Those of [`create_one`](Self::create_one), for all of them.
    fn create_all(
        &self,
        users: Vec<NewUser>,
    ) -> impl Future<Output = Result<Vec<UserId>, StoreError>> + Send {
        async {
            match self.create_many(users, None, None).await? {
                Stored::Now(ids) => Ok(ids),
                Stored::Before(_) => Err(StoreError::internal("nothing was stored")),
            }
        }
    }

    /// The user with this id, if it exists.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] but full.
    fn get(&self, id: UserId)
    -> impl Future<Output = Result<Option<Arc<User>>, StoreError>> + Send;

    /// Changes the user with this id, if it exists, and returns the changed user.
    ///
    /// The change is atomic. No concurrent change to the same user is lost. If two changes set the same field,
    /// the last one wins.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`]. Only after [unknown](StoreError::is_unknown) the user may have changed.
    fn update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> impl Future<Output = Result<Option<Arc<User>>, StoreError>> + Send;

    /// The number of users and the newest user, as a consistent snapshot.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] but full.
    fn extent(&self) -> impl Future<Output = Result<Extent, StoreError>> + Send;

    /// Streams the users of `extent` in order of their ids, from the first id above `after`. `after` need not be
    /// the id of a user. `None` starts with the oldest user.
    ///
    /// Users that are created later are left out, however long the scan takes. The values are not a snapshot: a
    /// user that changes during the scan is returned in its old or its new state.
    ///
    /// The scan reads at most two pages ahead while the caller uses a page. Between pages it holds no
    /// transaction and no lock, however long the caller pauses. If the future of a page is dropped, that page is
    /// still the next one.
    ///
    /// A user that cannot be read is left out, logged, and counted in [`Page::skipped`]. A page can be empty.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] but full. The stream then ends.
    fn scan(
        &self,
        after: Option<UserId>,
        extent: Extent,
    ) -> impl Stream<Item = Result<Page, StoreError>> + Send;

    /// Whether users can be read and written at present. A change is noticed within about a second. A closed
    /// receiver keeps its last value. The default is for stores that are always available.
    fn availability(&self) -> watch::Receiver<bool> {
        watch::Sender::new(true).subscribe()
    }

    /// The metrics of the store, for a registry of Prometheus.
    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        Vec::new()
    }
}

fn notify(listener: Option<&ChangeListener>, id: UserId) {
    if let Some(listener) = listener {
        listener.notify(id);
    }
}

/// The state of a store before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It does not exist, and would be created.
    Nothing,
    /// It has the schema of an older version of this program, and would be migrated.
    Older,
    /// This version can use it as it is.
    Current,
    /// It has the current schema but is read-only: users are read, and health is NOT_SERVING.
    ReadOnly,
    /// Another process has it open, so it cannot be inspected.
    InUse,
}

impl Found {
    /// Whether opening would create or migrate it.
    pub fn would_change(self) -> bool {
        matches!(self, Self::Nothing | Self::Older)
    }

    /// The state of a store with `applied` of the `known` migrations.
    fn of(applied: usize, known: usize) -> Self {
        match applied {
            0 => Self::Nothing,
            applied if applied < known => Self::Older,
            _ => Self::Current,
        }
    }
}

/// The size of a store at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The number of users.
    pub total: u64,
    /// The user that was created last; `None` without users.
    pub newest: Option<UserId>,
}

//! Where users are kept: the trait that every store implements, and what they share.

use std::sync::Arc;

use futures_util::Stream;
use prometheus::core::Collector;
use tokio::sync::watch;

pub use self::error::StoreError;
pub use self::ids::IdSequence;
pub use self::listener::ChangeListener;
use self::once::{Creation, Progress, Remembered, forgotten};
pub use self::once::{IdempotencyKey, Known, Mark, Part, Stored};
pub use self::page::{PAGE_LEN, Packed, Page};
use crate::domain::{NewUser, User, UserChange, UserId};

mod availability;
mod error;
mod ids;
mod listener;
pub mod memory;
pub mod metrics;
mod once;
mod page;
pub mod postgres;
pub mod sqlite;
mod turns;

/// Keeps users. None is ever deleted. Every store is held to `tests/it/stores/contract/`.
///
/// Users appear in order of their ids: once a user is seen, by whatever method, no user with a
/// smaller id ever appears. So whoever goes through them in that order (see [`scan`](Self::scan)),
/// with whatever pauses, misses none.
///
/// A future may be dropped at any time (its caller's call has ended): then a change has either
/// happened as a whole or not at all.
pub trait UserStore: Send + Sync + 'static {
    /// Stores a new user under a new id, greater than all ids before it. With a key that was given
    /// before, within a day, it stores nothing and returns the user as it was created then, whatever
    /// has become of it.
    ///
    /// When the future is ready, the user is as durable as the store makes anything, and every
    /// other method sees it. `listener` is told its id before it is stored: whoever drops the future
    /// knows all that may have happened.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`]. After all but [unknown](StoreError::is_unknown) the user is not stored.
    /// [Key reused](StoreError::is_key_reused) if something else was to be created with that key.
    fn create_one(
        &self,
        user: NewUser,
        key: Option<IdempotencyKey>,
        listener: Option<ChangeListener>,
    ) -> impl Future<Output = Result<Arc<User>, StoreError>> + Send;

    /// Stores new users in one step, each under a new id, greater than that of the one before it:
    /// either all of them or none, and no other method ever sees a part of them. Gives their ids, in
    /// the same order. Of a stream with a key they are only stored if they are its next part.
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

    /// As [`create_many`](Self::create_many), of no stream.
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

    /// The user with this id, if there is one.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] but full.
    fn get(&self, id: UserId)
    -> impl Future<Output = Result<Option<Arc<User>>, StoreError>> + Send;

    /// Changes the user with this id, if there is one, and returns it as it is then.
    ///
    /// Reading and writing are one step: of concurrent changes to one user none is lost, and where
    /// they set the same field the last one stays.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`]. After all but [unknown](StoreError::is_unknown) nothing has changed.
    fn update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> impl Future<Output = Result<Option<Arc<User>>, StoreError>> + Send;

    /// How many users there are, and the newest of them, both at one moment.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] but full.
    fn extent(&self) -> impl Future<Output = Result<Extent, StoreError>> + Send;

    /// Goes through the users of `extent` in order of their ids, from the first one above `after`, which
    /// need not be the id of a user (from the oldest, if `None`).
    ///
    /// Those created later are not among them, however long it takes. It is no snapshot of their
    /// values: a user changed meanwhile is returned either as it was or as it is.
    ///
    /// It reads a page or two ahead while the caller is busy with one, and no more. From page to page it
    /// has no transaction open, nor anything that others may wait for, however long its caller rests.
    /// If the future of a page is dropped, that page is the next one all the same.
    ///
    /// A user that cannot be read is left out, logged, and counted in [`Page::skipped`]. A page may have no
    /// users.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] but full; with it the stream ends, and stays so.
    fn scan(
        &self,
        after: Option<UserId>,
        extent: Extent,
    ) -> impl Stream<Item = Result<Page, StoreError>> + Send;

    /// Whether users can be read and written, now and later on: what calls would find that came now.
    /// Changes are seen within about a second. One that is closed stays as it is; so does this one,
    /// for stores that are always there.
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

/// What there is for a store to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing yet: it would be made.
    Nothing,
    /// What an older version of this program has left: its schema would be brought up to date.
    Older,
    /// What this version can use as it is.
    Current,
    /// What this version can use as it is, but for changes: users are read, and health is NOT_SERVING.
    ReadOnly,
    /// What another process has open, and nobody can look into meanwhile.
    InUse,
}

impl Found {
    /// Whether opening it would make or change anything.
    pub fn would_change(self) -> bool {
        matches!(self, Self::Nothing | Self::Older)
    }

    /// Of the migrations that a store has seen, and those that there are.
    fn of(seen: usize, known: usize) -> Self {
        match seen {
            0 => Self::Nothing,
            seen if seen < known => Self::Older,
            _ => Self::Current,
        }
    }
}

/// What a store holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How many users.
    pub total: u64,
    /// The user created last; `None` if there are no users.
    pub newest: Option<UserId>,
}

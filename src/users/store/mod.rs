//! Where users are kept: the trait that every store implements, and what they share.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::FutureExt;
use futures_util::future::{MaybeDone, maybe_done};
use tokio::sync::watch;
use uuid::{ClockSequence, ContextV7, Uuid};

pub use self::once::IdempotencyKey;
use super::domain::{NewUser, Timestamp, User, UserChange, UserId};

mod availability;
pub mod memory;
mod once;
pub mod postgres;
pub mod sqlite;

/// How many users a page of a [`Scan`] has.
///
/// A page is a hop to another thread or machine and back: SQLite streams half as many users again with
/// this as with a quarter of it. It is 100 KiB of typical users, and 1.2 MiB of those of the greatest
/// size.
pub const PAGE_LEN: usize = 1024;

/// Keeps users. None is ever deleted. Every store is held to `tests/it/stores/contract.rs`.
///
/// Users appear in order of their ids: once a user is seen, by whatever method, no user with a
/// smaller id ever appears. So whoever goes through them in that order (see [`page`](Self::page)),
/// with whatever pauses, misses none.
///
/// A future may be dropped at any time (its caller's call has ended): then a change has either
/// happened as a whole or not at all.
pub trait UserStore: Send + Sync + 'static {
    /// Stores a new user under a new id, greater than all ids before it.
    ///
    /// When the future is ready, the user is as durable as the store makes anything, and every
    /// other method sees it.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`]. When unavailable, the user may have been stored all the same.
    fn create(&self, user: NewUser) -> impl Future<Output = Result<Arc<User>, StoreError>> + Send;

    /// As [`create`](Self::create), once for each key: with a key that was given before, within a day,
    /// it stores nothing and returns the user as it was created then, whatever has become of it.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create); and [key reused](StoreError::is_key_reused) if another
    /// user was to be created with that key.
    fn create_once(
        &self,
        key: IdempotencyKey,
        user: NewUser,
    ) -> impl Future<Output = Result<Arc<User>, StoreError>> + Send;

    /// Stores new users in one step, each under a new id, greater than that of the one before it:
    /// either all of them or none, and no other method ever sees a part of them. Gives their ids, in
    /// the same order.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create), for all of them.
    fn create_all(
        &self,
        users: Vec<NewUser>,
    ) -> impl Future<Output = Result<Vec<UserId>, StoreError>> + Send;

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
    /// Any [`StoreError`]. When unavailable, the change may have happened all the same.
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

    /// Appends to `page` the users with ids above `after` (all, if `None`) and up to `until`: the
    /// first `limit` of them, in order of their ids. Fewer only if there are no more.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] but full; what `page` then holds is unspecified.
    fn page(
        &self,
        after: Option<UserId>,
        until: UserId,
        limit: usize,
        page: &mut Vec<Arc<User>>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether users can be read and written, now and later on: what calls would find that came now.
    /// Changes are seen within about a second. One that is closed stays as it is; so does this one,
    /// for stores that are always there.
    fn availability(&self) -> watch::Receiver<bool> {
        watch::Sender::new(true).subscribe()
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
    /// What another process has open, and nobody can look into meanwhile.
    InUse,
}

impl Found {
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

/// Goes through a store's users in order of creation, holding a page of them, and the next one, which
/// it asks for as it begins with the first: so the store reads while the caller is busy.
///
/// It returns the users of its [`Extent`]: those created later are not in it, however long it takes.
/// It is no snapshot of their values: a user updated meanwhile is returned either as it was or as it
/// is.
pub struct Scan<'a, S> {
    store: &'a S,
    /// The last user returned, or where the caller resumes.
    after: Option<UserId>,
    until: Option<UserId>,
    /// Newest first, so that `pop` gives the next user without copying it.
    page: Vec<Arc<User>>,
    /// The page behind that one.
    ahead: Option<MaybeDone<Page<'a>>>,
}

/// Likewise, newest first.
type Page<'a> = Pin<Box<dyn Future<Output = Result<Vec<Arc<User>>, StoreError>> + Send + 'a>>;

impl<'a, S: UserStore> Scan<'a, S> {
    /// Starts behind the user `after`, or with the oldest if `None`, and ends with the newest user
    /// of `extent`. `after` need not be the id of an existing user.
    pub fn new(store: &'a S, extent: Extent, after: Option<UserId>) -> Self {
        Self { store, after, until: extent.newest, page: Vec::new(), ahead: None }
    }

    /// The next user, or `None` at the end (and from then on).
    ///
    /// Cancel safe: if the future is dropped, the next call returns the user that it would have
    /// returned.
    ///
    /// # Errors
    ///
    /// What [`UserStore::page`] returns; a later call tries again.
    pub async fn next(&mut self) -> Result<Option<Arc<User>>, StoreError> {
        if self.page.is_empty() {
            self.fill().await?;
        }
        let user = self.page.pop();
        if let Some(user) = &user {
            self.after = Some(user.id);
        }
        Ok(user)
    }

    async fn fill(&mut self) -> Result<(), StoreError> {
        if self.ahead.is_none() {
            self.ahead = self.page_after(self.after);
        }
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        // If this is dropped, the page stays asked for.
        ahead.await;
        let page = self.ahead.take().and_then(|mut ahead| Pin::new(&mut ahead).take_output());
        self.page = page.unwrap_or_else(|| Ok(Vec::new()))?;
        if self.page.len() == PAGE_LEN {
            let mut ahead = self.page_after(self.page.first().map(|newest| newest.id));
            // Begins it; whether it is done, or failed, is of interest when it is wanted.
            poll_fn(|cx| Poll::Ready(ahead.as_mut().map(|ahead| ahead.poll_unpin(cx)))).await;
            self.ahead = ahead;
        }
        Ok(())
    }

    /// `None` if that is the end.
    fn page_after(&self, after: Option<UserId>) -> Option<MaybeDone<Page<'a>>> {
        let (store, until) = (self.store, self.until.filter(|until| after < Some(*until))?);
        Some(maybe_done(Box::pin(async move {
            let mut page = Vec::new();
            store.page(after, until, PAGE_LEN, &mut page).await?;
            page.reverse();
            Ok(page)
        })))
    }
}

impl<S> fmt::Debug for Scan<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("after", &self.after)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// Issues ids that strictly increase, also within a millisecond and when the clock steps back.
///
/// A store keeps one, and issues an id and stores its user as one step, so that no user appears
/// behind a newer one.
#[derive(Debug, Default)]
pub struct IdSequence {
    /// Never goes back: it keeps the greatest time that it has seen, and counts within it.
    context: ContextV7,
}

impl IdSequence {
    /// A sequence for a store without users.
    pub fn new() -> Self {
        Self::default()
    }

    /// A sequence whose ids are all greater than `newest` (one that a sequence has issued), for a
    /// store that has users from before it was opened: the clock may have been stepped back since.
    pub fn resume(newest: UserId) -> Self {
        let sequence = Self::new();
        if let Some((seconds, nanos)) = Uuid::from(newest).get_timestamp().map(|t| t.to_unix()) {
            // The millisecond of `newest` has a counter that is not known any more, the next is free.
            let nanos = u64::from(nanos) + 1_000_000;
            let (seconds, nanos) = (seconds + nanos / 1_000_000_000, nanos % 1_000_000_000);
            sequence.context.generate_timestamp_sequence(seconds, nanos as u32);
        }
        sequence
    }

    /// The next id. It carries `now`, or the latest time given so far if that is later; times
    /// before 1970, which no id can carry, count as 1970.
    pub fn next(&mut self, now: Timestamp) -> UserId {
        let seconds = u64::try_from(now.seconds()).unwrap_or(0);
        let nanos = u32::try_from(now.nanos()).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix(&self.context, seconds, nanos)).into()
    }
}

/// Why a store could not do what it was asked. It never holds a user's personal data, provided that
/// the given cause does not.
#[derive(Debug)]
pub struct StoreError {
    kind: Kind,
    cause: Box<dyn Error + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Full,
    Corrupt,
    KeyReused,
    Internal,
}

impl StoreError {
    /// The store cannot be reached or is too busy at present; the same call may succeed later.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Unavailable, cause: cause.into() }
    }

    /// The store has no room for what was to be written.
    pub fn full(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Full, cause: cause.into() }
    }

    /// What the store holds cannot be a user.
    pub fn corrupt(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Corrupt, cause: cause.into() }
    }

    /// The key was given before, for another user.
    pub fn key_reused() -> Self {
        Self { kind: Kind::KeyReused, cause: "it was given for another user".into() }
    }

    /// A fault that no caller can do anything about, such as a refused statement.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Internal, cause: cause.into() }
    }

    /// The same for another caller.
    fn copied(&self) -> Self {
        Self { kind: self.kind, cause: self.cause.to_string().into() }
    }

    /// Whether the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        self.kind == Kind::Unavailable
    }

    /// Whether the store has no room for what was to be written.
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }

    /// Whether stored data was lost or damaged.
    pub fn is_corrupt(&self) -> bool {
        self.kind == Kind::Corrupt
    }

    /// Whether the key was given before, for another user.
    pub fn is_key_reused(&self) -> bool {
        self.kind == Kind::KeyReused
    }

    /// Whether it is none of the other kinds.
    pub fn is_internal(&self) -> bool {
        self.kind == Kind::Internal
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Unavailable => "user store unavailable",
            Kind::Full => "user store full",
            Kind::Corrupt => "user store corrupt",
            Kind::KeyReused => "idempotency key reused",
            Kind::Internal => "user store failed",
        };
        write!(f, "{what}: {}", self.cause)
    }
}

impl Error for StoreError {
    /// The cause of the cause: the cause itself is part of the `Display` text.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

/// The output of a future that is ready at once, as those of the stores in these tests are.
#[cfg(test)]
fn ready<F: Future>(future: F) -> F::Output {
    use std::task::{Context, Poll, Waker};
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future is not ready"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::memory::MemoryStore;
    use super::*;
    use std::mem;
    use std::pin::pin;
    use std::sync::Mutex;
    use std::task::{Context, Waker};

    /// A memory store that records the length of each page, and can be made to break off a page.
    #[derive(Default)]
    struct Paged {
        users: MemoryStore,
        pages: Mutex<Vec<usize>>,
        next: Mutex<Next>,
    }

    #[derive(Clone, Copy, Default)]
    enum Next {
        #[default]
        Whole,
        HangHalfway,
        FailHalfway,
    }

    impl Paged {
        fn with_users(count: usize) -> (Self, Vec<UserId>) {
            let store = Self::default();
            let ids = (0..count).map(|_| store.add()).collect();
            (store, ids)
        }

        fn add(&self) -> UserId {
            ready(self.create(NewUser::parse("Alice", "a@b.co").unwrap())).unwrap().id
        }

        fn scan(&self, after: Option<UserId>) -> Scan<'_, Self> {
            Scan::new(self, ready(self.extent()).unwrap(), after)
        }
    }

    impl UserStore for Paged {
        async fn create(&self, user: NewUser) -> Result<Arc<User>, StoreError> {
            self.users.create(user).await
        }

        async fn create_once(
            &self,
            key: IdempotencyKey,
            user: NewUser,
        ) -> Result<Arc<User>, StoreError> {
            self.users.create_once(key, user).await
        }

        async fn create_all(&self, users: Vec<NewUser>) -> Result<Vec<UserId>, StoreError> {
            self.users.create_all(users).await
        }

        async fn get(&self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
            self.users.get(id).await
        }

        async fn update(
            &self,
            id: UserId,
            change: UserChange,
        ) -> Result<Option<Arc<User>>, StoreError> {
            self.users.update(id, change).await
        }

        async fn extent(&self) -> Result<Extent, StoreError> {
            self.users.extent().await
        }

        async fn page(
            &self,
            after: Option<UserId>,
            until: UserId,
            limit: usize,
            page: &mut Vec<Arc<User>>,
        ) -> Result<(), StoreError> {
            assert!(page.is_empty());
            let next = mem::take(&mut *self.next.lock().unwrap());
            let limit = if matches!(next, Next::Whole) { limit } else { limit / 2 };
            self.users.page(after, until, limit, page).await?;
            self.pages.lock().unwrap().push(page.len());
            match next {
                Next::Whole => Ok(()),
                Next::HangHalfway => {
                    let mut hanging = true;
                    poll_fn(
                        |_| if mem::take(&mut hanging) { Poll::Pending } else { Poll::Ready(()) },
                    )
                    .await;
                    page.clear();
                    self.users.page(after, until, 2 * limit, page).await
                }
                Next::FailHalfway => Err(StoreError::unavailable("connection reset")),
            }
        }
    }

    fn rest(scan: &mut Scan<'_, Paged>) -> Vec<UserId> {
        std::iter::from_fn(|| ready(scan.next()).unwrap().map(|user| user.id)).collect()
    }

    #[test]
    fn a_scan_returns_every_user_in_order_of_creation() {
        for count in [0, 1, PAGE_LEN - 1, PAGE_LEN, PAGE_LEN + 1, 3 * PAGE_LEN] {
            let (store, ids) = Paged::with_users(count);
            let mut scan = store.scan(None);
            assert_eq!(rest(&mut scan), ids);
            assert!(ready(scan.next()).unwrap().is_none(), "the end stays the end");
        }
    }

    #[test]
    fn a_scan_holds_one_page_and_the_next() {
        let (store, _) = Paged::with_users(2 * PAGE_LEN + 1);
        let mut scan = store.scan(None);
        let mut returned = 0_usize;
        while ready(scan.next()).unwrap().is_some() {
            returned += 1;
            assert!(scan.page.len() < PAGE_LEN && scan.page.capacity() <= PAGE_LEN);
            let asked_for = (returned.div_ceil(PAGE_LEN) + 1).min(3);
            assert_eq!(store.pages.lock().unwrap().len(), asked_for);
        }
        assert_eq!(*store.pages.lock().unwrap(), [PAGE_LEN, PAGE_LEN, 1]);
    }

    #[test]
    fn a_scan_resumes_after_the_given_user() {
        let (store, ids) = Paged::with_users(PAGE_LEN + 2);
        for (position, id) in ids.iter().enumerate() {
            assert_eq!(rest(&mut store.scan(Some(*id))), ids[position + 1..]);
        }
        let older_than_all = Some(UserId::from(Uuid::nil()));
        let newer_than_all = Some(UserId::from(Uuid::max()));
        assert_eq!(rest(&mut store.scan(older_than_all)), ids);
        assert_eq!(rest(&mut store.scan(newer_than_all)), []);
    }

    #[test]
    fn users_created_during_a_scan_are_not_in_it() {
        let (store, ids) = Paged::with_users(PAGE_LEN + 1);
        let mut scan = store.scan(None);
        let mut returned = Vec::new();
        while let Some(user) = ready(scan.next()).unwrap() {
            returned.push(user.id);
            store.add();
        }
        assert_eq!(returned, ids);
        let (empty, _) = Paged::with_users(0);
        let mut scan = empty.scan(None);
        empty.add();
        assert_eq!(rest(&mut scan), []);
    }

    #[test]
    fn a_dropped_or_failed_call_loses_no_user_of_a_scan() {
        let (store, ids) = Paged::with_users(PAGE_LEN + 1);
        let mut scan = store.scan(None);

        *store.next.lock().unwrap() = Next::HangHalfway;
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(scan.next()).poll(&mut cx).is_pending());

        // That is the second page, which is asked for when the first is there.
        *store.next.lock().unwrap() = Next::FailHalfway;
        let first = (0..PAGE_LEN).map(|_| ready(scan.next()).unwrap().unwrap().id);
        assert!(first.eq(ids[..PAGE_LEN].iter().copied()));
        assert!(ready(scan.next()).unwrap_err().is_unavailable());

        assert_eq!(rest(&mut scan), ids[PAGE_LEN..]);
    }

    #[test]
    fn ids_increase_when_the_clock_stands_or_steps_back() {
        let noon = Timestamp::new(1_700_000_000, 0).unwrap();
        let morning = Timestamp::new(1_699_990_000, 0).unwrap();
        let mut sequence = IdSequence::new();
        let clock = [noon, noon, morning, Timestamp::MIN, morning, noon, Timestamp::MAX, noon];
        let ids = clock.map(|now| sequence.next(now));
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }

    #[test]
    fn an_id_carries_its_time_of_creation() {
        let now = Timestamp::new(1_700_000_000, 123_456_789).unwrap();
        let uuid = Uuid::from(IdSequence::new().next(now));
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_timestamp().unwrap().to_unix(), (1_700_000_000, 123_000_000));
    }

    #[test]
    fn a_resumed_sequence_continues_above_the_newest_id() {
        let now = Timestamp::new(1_700_000_000, 999_999_999).unwrap();
        let hour_ago = Timestamp::new(1_699_996_400, 0).unwrap();
        // Counters start at random: going on within the same millisecond would fail half the time.
        for _ in 0..64 {
            let newest = IdSequence::new().next(now);
            for clock in [now, hour_ago] {
                assert!(IdSequence::resume(newest).next(clock) > newest);
            }
        }
    }

    #[test]
    fn an_error_has_one_kind_and_names_its_cause() {
        let kinds = |e: &StoreError| {
            [e.is_unavailable(), e.is_full(), e.is_corrupt(), e.is_key_reused(), e.is_internal()]
                .map(u8::from)
        };
        let unavailable = StoreError::unavailable("connection refused");
        assert_eq!(unavailable.to_string(), "user store unavailable: connection refused");
        assert_eq!(kinds(&unavailable), [1, 0, 0, 0, 0]);
        assert_eq!(kinds(&StoreError::full("x")), [0, 1, 0, 0, 0]);
        assert_eq!(kinds(&StoreError::corrupt("x")), [0, 0, 1, 0, 0]);
        assert_eq!(kinds(&StoreError::key_reused()), [0, 0, 0, 1, 0]);
        assert_eq!(kinds(&StoreError::internal("x")), [0, 0, 0, 0, 1]);
    }
}

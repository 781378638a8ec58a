//! The queue of changes, and which of them share the next transaction.
//!
//! ```text
//!  create, update ────────> singles ──┐
//!  chunks of CreateUsers ─> chunks ───┼──> a group: all singles, and chunks while there is room
//!  large batches ─────────> large ────┘    or, by turns, one large batch alone
//! ```
//!
//! A transaction is bounded by users and bytes, so a change waits for one large batch at the most, however
//! many there are. Changes whose callers have gone leave the queue at once, with their memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::StoreError;
use crate::domain::NewUser;

/// Users in a group at most: a transaction of some milliseconds, which a call may have to wait for on
/// top of its own. What an fsync costs is spread thin long before that.
const MAX_USERS: usize = 1024;

/// Bytes of texts in a group at most: two chunks of the longest users.
const MAX_BYTES: usize = 512 * 1024;

/// How many changes of a kind wait in the queue at most; more wait to be let in, in the order in which
/// they came.
const QUEUE_LEN: usize = 1024;

/// Where the answer to a change goes. Closed when nobody waits for it any more.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What a change adds to its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    users: usize,
    bytes: usize,
}

impl Size {
    /// Of a change of one user.
    pub(super) const ONE: Self = Self { users: 1, bytes: 0 };

    pub(super) fn of(users: &[NewUser]) -> Self {
        let bytes = users.iter().map(|user| user.name().len() + user.email().len()).sum();
        Self { users: users.len(), bytes }
    }

    fn plus(self, other: Self) -> Self {
        Self { users: self.users + other.users, bytes: self.bytes + other.bytes }
    }

    fn fits(self) -> bool {
        self.users <= MAX_USERS && self.bytes <= MAX_BYTES
    }

    fn lane(self) -> Lane {
        match self {
            Self { users: 0..=1, .. } => Lane::Singles,
            size if size.fits() => Lane::Chunks,
            _ => Lane::Large,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Singles,
    Chunks,
    Large,
}

/// A change in the queue. Its caller takes it back when it goes away.
type Slot<Job> = Arc<Mutex<Option<Job>>>;

/// The side of those who want changes.
pub(super) struct Queue<Job> {
    shared: Arc<Shared<Job>>,
    /// Of one message, which says that something is there.
    wake: mpsc::Sender<()>,
}

/// The side of the one who makes them.
pub(super) struct Turns<Job> {
    shared: Arc<Shared<Job>>,
    wake: mpsc::Receiver<()>,
}

struct Shared<Job> {
    waiting: Mutex<Waiting<Job>>,
    /// Of each lane.
    room: [Semaphore; 3],
}

struct Waiting<Job> {
    lanes: [VecDeque<(Size, Slot<Job>)>; 3],
    /// Whether the next group is a large batch, if there is one.
    large_is_next: bool,
    /// Nobody makes changes any more.
    closed: bool,
}

/// A queue without changes.
pub(super) fn queue<Job>() -> (Queue<Job>, Turns<Job>) {
    let (wake, woken) = mpsc::channel(1);
    let waiting = Waiting { lanes: Default::default(), large_is_next: false, closed: false };
    let room = [(); 3].map(|()| Semaphore::new(QUEUE_LEN));
    let shared = Arc::new(Shared { waiting: Mutex::new(waiting), room });
    (Queue { shared: shared.clone(), wake }, Turns { shared, wake: woken })
}

impl<Job> Queue<Job> {
    /// Has a change made, and gives its answer. Dropped before its turn, it is not made.
    pub(super) async fn ask<T>(
        &self,
        size: Size,
        job: impl FnOnce(Reply<T>) -> Job,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let slot = Withdrawn(Arc::new(Mutex::new(Some(job(reply)))));
        let room = &self.shared.room[size.lane() as usize];
        room.acquire().await.map_err(|_| stopped())?.forget();
        self.put(size, slot.0.clone());
        answer.await.map_err(|_| stopped())?
    }

    /// Adds a change that nobody waits for, if there is room.
    pub(super) fn try_put(&self, job: Job) {
        if let Ok(room) = self.shared.room[Lane::Singles as usize].try_acquire() {
            room.forget();
            self.put(Size::ONE, Arc::new(Mutex::new(Some(job))));
        }
    }

    /// How many changes wait for their turn.
    pub(super) fn waiting(&self) -> usize {
        self.shared.waiting().lanes.iter().map(VecDeque::len).sum()
    }

    fn put(&self, size: Size, slot: Slot<Job>) {
        let mut waiting = self.shared.waiting();
        if waiting.closed {
            drop(withdraw(&slot));
            return;
        }
        waiting.lanes[size.lane() as usize].push_back((size, slot));
        drop(waiting);
        // If there is a message already, that one is enough.
        let _ = self.wake.try_send(());
    }
}

impl<Job> Clone for Queue<Job> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), wake: self.wake.clone() }
    }
}

impl<Job> Turns<Job> {
    /// Waits for changes: those of the next transaction. `None` when nobody can want any more. Cancel
    /// safe.
    pub(super) async fn next(&mut self) -> Option<Vec<Job>> {
        loop {
            let group = self.group();
            if !group.is_empty() {
                return Some(group);
            }
            self.wake.recv().await?;
        }
    }

    /// The same for a thread.
    pub(super) fn next_blocking(&mut self) -> Option<Vec<Job>> {
        loop {
            let group = self.group();
            if !group.is_empty() {
                return Some(group);
            }
            self.wake.blocking_recv()?;
        }
    }

    fn group(&self) -> Vec<Job> {
        let mut waiting = self.shared.waiting();
        let Waiting { lanes: [singles, chunks, large], large_is_next, .. } = &mut *waiting;
        let mut group = Group { jobs: Vec::new(), size: Size { users: 0, bytes: 0 } };
        let [room_for_singles, room_for_chunks, room_for_large] = &self.shared.room;
        if *large_is_next {
            group.take_one(large, room_for_large);
        }
        *large_is_next = false;
        if group.jobs.is_empty() {
            // One chunk first: singles alone may fill all groups.
            group.take_one(chunks, room_for_chunks);
            group.take_what_fits(singles, room_for_singles);
            group.take_what_fits(chunks, room_for_chunks);
            *large_is_next = !group.jobs.is_empty();
        }
        if group.jobs.is_empty() {
            group.take_one(large, room_for_large);
        }
        group.jobs
    }
}

/// Nothing more is made: callers that still wait learn that.
impl<Job> Drop for Turns<Job> {
    fn drop(&mut self) {
        self.shared.room.iter().for_each(Semaphore::close);
        let mut waiting = self.shared.waiting();
        waiting.closed = true;
        for (_, slot) in waiting.lanes.iter_mut().flat_map(|lane| lane.drain(..)) {
            drop(withdraw(&slot));
        }
    }
}

impl<Job> Shared<Job> {
    /// Nothing here is ever half done.
    fn waiting(&self) -> MutexGuard<'_, Waiting<Job>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The changes of one transaction.
struct Group<Job> {
    jobs: Vec<Job>,
    size: Size,
}

impl<Job> Group<Job> {
    /// Takes the first change whose caller still waits, whatever its size.
    fn take_one(&mut self, lane: &mut VecDeque<(Size, Slot<Job>)>, room: &Semaphore) {
        while let Some((size, slot)) = lane.pop_front() {
            room.add_permits(1);
            if self.take(size, &slot) {
                return;
            }
        }
    }

    fn take_what_fits(&mut self, lane: &mut VecDeque<(Size, Slot<Job>)>, room: &Semaphore) {
        while let Some((size, _)) = lane.front()
            && self.size.plus(*size).fits()
            && let Some((size, slot)) = lane.pop_front()
        {
            room.add_permits(1);
            self.take(size, &slot);
        }
    }

    fn take(&mut self, size: Size, slot: &Slot<Job>) -> bool {
        let job = withdraw(slot);
        let is_there = job.is_some();
        if is_there {
            self.size = self.size.plus(size);
            self.jobs.extend(job);
        }
        is_there
    }
}

/// Takes the change out of the queue when its caller goes away.
struct Withdrawn<Job>(Slot<Job>);

impl<Job> Drop for Withdrawn<Job> {
    fn drop(&mut self) {
        drop(withdraw(&self.0));
    }
}

fn withdraw<Job>(slot: &Slot<Job>) -> Option<Job> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

pub(super) fn stopped() -> StoreError {
    StoreError::internal("its writer has stopped")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt;

    use super::*;

    type Asked<'q> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + 'q>>;

    /// A change of so many users, in the queue.
    fn ask<'q>(queue: &'q Queue<(usize, Reply<()>)>, users: usize) -> Asked<'q> {
        let size = Size { users, bytes: 0 };
        let mut asked: Asked<'_> = Box::pin(queue.ask(size, move |reply| (users, reply)));
        assert!(asked.as_mut().now_or_never().is_none());
        asked
    }

    /// How many users the changes of the next group have.
    fn next(turns: &Turns<(usize, Reply<()>)>) -> Vec<usize> {
        turns.group().into_iter().map(|(users, _)| users).collect()
    }

    #[test]
    fn a_single_change_waits_for_one_large_batch_at_most() {
        let (queue, turns) = queue();
        let _large: Vec<_> = (0..250).map(|_| ask(&queue, 10_000)).collect();
        assert_eq!(next(&turns), [10_000]);
        for _ in 0..100 {
            let _single = ask(&queue, 1);
            assert_eq!(next(&turns), [1]);
            assert_eq!(next(&turns), [10_000]);
        }
    }

    #[test]
    fn a_chunk_does_not_wait_for_all_large_batches() {
        let (queue, turns) = queue();
        let _large: Vec<_> = (0..3).map(|_| ask(&queue, 2000)).collect();
        let _chunk = ask(&queue, 256);
        assert_eq!(next(&turns), [256]);
        assert_eq!([next(&turns), next(&turns), next(&turns)], [[2000], [2000], [2000]]);
        assert!(next(&turns).is_empty());
    }

    #[test]
    fn a_group_is_bounded_by_users_and_by_bytes() {
        let (queue, turns) = queue();
        let _chunks: Vec<_> = (0..9).map(|_| ask(&queue, 256)).collect();
        let _singles: Vec<_> = (0..300).map(|_| ask(&queue, 1)).collect();
        for users in [812, 1024, 768] {
            assert_eq!(next(&turns).iter().sum::<usize>(), users);
        }
        let size = Size { users: 2, bytes: MAX_BYTES / 2 + 1 };
        let mut long: Vec<_> = (0..2).map(|_| Box::pin(queue.ask(size, |it| (2, it)))).collect();
        long.iter_mut().for_each(|it| assert!(it.as_mut().now_or_never().is_none()));
        assert_eq!([next(&turns), next(&turns)], [[2], [2]]);
        assert_eq!(Size { users: 2, bytes: MAX_BYTES + 1 }.lane(), Lane::Large);
    }

    #[test]
    fn singles_do_not_keep_chunks_out() {
        let (queue, turns) = queue();
        let _singles: Vec<_> = (0..QUEUE_LEN).map(|_| ask(&queue, 1)).collect();
        let _chunk = ask(&queue, 256);
        assert!(next(&turns).contains(&256));
    }

    #[test]
    fn a_change_whose_caller_has_gone_leaves_its_memory_and_no_trace() {
        let (queue, turns) = queue();
        let held = Arc::new(());
        let job = held.clone();
        let mut gone = Box::pin(queue.ask(Size::ONE, |reply: Reply<()>| (job, reply)));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(turns.group().is_empty());
        assert_eq!(turns.shared.room[0].available_permits(), QUEUE_LEN);
    }

    #[test]
    fn a_queue_full_of_batches_lets_single_changes_in() {
        let (queue, turns) = queue();
        let _large: Vec<_> = (0..=QUEUE_LEN).map(|_| ask(&queue, 5000)).collect();
        let _single = ask(&queue, 1);
        assert_eq!(next(&turns), [1]);
    }

    #[tokio::test]
    async fn callers_learn_that_the_writer_has_stopped() {
        let (queue, turns) = queue();
        let waiting = ask(&queue, 1);
        drop(turns);
        assert!(waiting.await.unwrap_err().is_internal());
        assert!(queue.ask(Size::ONE, |reply: Reply<()>| (1, reply)).await.is_err());
    }

    #[tokio::test]
    async fn a_writer_ends_with_those_who_want_changes() {
        let (queue, mut turns) = queue();
        queue.try_put(1);
        assert_eq!(turns.next().await, Some(vec![1]));
        drop(queue);
        assert_eq!(turns.next().await, None);
    }
}

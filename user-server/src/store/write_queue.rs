//! The queue of changes, and the group of changes that share a transaction.
//!
//! ```text
//!  create, update ────────> singles ──┐
//!  chunks of CreateUsers ─> chunks ───┼──> a group: all singles, and chunks as long as they fit
//!  large batches ─────────> large ────┘    or, alternating, one large batch alone
//! ```
//!
//! A transaction is bounded by users and bytes. So a change waits for at most one large batch, however many are
//! queued. If a caller disconnects, its change leaves the queue immediately and frees its memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::StoreError;
use crate::domain::NewUser;

/// The maximum number of users in a group. Its transaction takes a few milliseconds, for which a call may have to
/// wait before its own. Much smaller groups already amortize the cost of an fsync.
const MAX_USERS: usize = 1024;

/// The maximum size of the texts in a group, in bytes: two chunks of the longest users.
const MAX_BYTES: usize = 512 * 1024;

/// The maximum length of each lane. Further changes wait for a free position, in order of arrival.
const QUEUE_LEN: usize = 1024;

/// Sends the answer to a change. It is closed if the caller has disconnected.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// The size of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    users: usize,
    bytes: usize,
}

impl Size {
    /// The size of a change to one user.
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

/// A change in the queue. A caller that disconnects takes it out.
type Slot<Job> = Arc<Mutex<Option<Job>>>;

/// The side of the callers.
pub(super) struct Queue<Job> {
    shared: Arc<Shared<Job>>,
    /// A channel of one message, which wakes the writer.
    wake: mpsc::Sender<()>,
}

/// The side of the writer.
pub(super) struct Groups<Job> {
    shared: Arc<Shared<Job>>,
    wake: mpsc::Receiver<()>,
}

struct Shared<Job> {
    lanes: Mutex<Lanes<Job>>,
    /// The free positions of each lane.
    free: [Semaphore; 3],
}

struct Lanes<Job> {
    lanes: [VecDeque<(Size, Slot<Job>)>; 3],
    /// Whether the next group is a large batch, if one is queued.
    large_is_next: bool,
    /// Whether the writer has stopped.
    closed: bool,
}

/// An empty queue.
pub(super) fn queue<Job>() -> (Queue<Job>, Groups<Job>) {
    let (wake, woken) = mpsc::channel(1);
    let lanes = Lanes { lanes: Default::default(), large_is_next: false, closed: false };
    let free = [(); 3].map(|()| Semaphore::new(QUEUE_LEN));
    let shared = Arc::new(Shared { lanes: Mutex::new(lanes), free });
    (Queue { shared: shared.clone(), wake }, Groups { shared, wake: woken })
}

impl<Job> Queue<Job> {
    /// Queues a change, and returns its answer. If the future is dropped before the writer takes the change, it is
    /// not made.
    pub(super) async fn ask<T>(
        &self,
        size: Size,
        job: impl FnOnce(Reply<T>) -> Job,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let slot = WithdrawOnDrop(Arc::new(Mutex::new(Some(job(reply)))));
        let free = &self.shared.free[size.lane() as usize];
        free.acquire().await.map_err(|_| stopped())?.forget();
        self.put(size, slot.0.clone());
        answer.await.map_err(|_| stopped())?
    }

    /// Adds a change without an answer, if there is a free position.
    pub(super) fn try_put(&self, job: Job) {
        if let Ok(permit) = self.shared.free[Lane::Singles as usize].try_acquire() {
            permit.forget();
            self.put(Size::ONE, Arc::new(Mutex::new(Some(job))));
        }
    }

    /// The number of queued changes.
    pub(super) fn len(&self) -> usize {
        self.shared.lanes().lanes.iter().map(VecDeque::len).sum()
    }

    fn put(&self, size: Size, slot: Slot<Job>) {
        let mut lanes = self.shared.lanes();
        if lanes.closed {
            drop(withdraw(&slot));
            return;
        }
        lanes.lanes[size.lane() as usize].push_back((size, slot));
        drop(lanes);
        // If a message is pending already, the writer wakes anyway.
        let _ = self.wake.try_send(());
    }
}

impl<Job> Clone for Queue<Job> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), wake: self.wake.clone() }
    }
}

impl<Job> Groups<Job> {
    /// Waits for the changes of the next transaction. `None` once all callers are dropped. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Vec<Job>> {
        loop {
            let group = self.group();
            if !group.is_empty() {
                return Some(group);
            }
            self.wake.recv().await?;
        }
    }

    /// As [`next`](Self::next), for a thread.
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
        let mut lanes = self.shared.lanes();
        let Lanes { lanes: [singles, chunks, large], large_is_next, .. } = &mut *lanes;
        let mut group = Group { jobs: Vec::new(), size: Size { users: 0, bytes: 0 } };
        let [free_singles, free_chunks, free_large] = &self.shared.free;
        if *large_is_next {
            group.take_one(large, free_large);
        }
        *large_is_next = false;
        if group.jobs.is_empty() {
            // One chunk first, because singles alone may fill every group.
            group.take_one(chunks, free_chunks);
            group.take_what_fits(singles, free_singles);
            group.take_what_fits(chunks, free_chunks);
            *large_is_next = !group.jobs.is_empty();
        }
        if group.jobs.is_empty() {
            group.take_one(large, free_large);
        }
        group.jobs
    }
}

/// Ends the waiting of all callers with an error.
impl<Job> Drop for Groups<Job> {
    fn drop(&mut self) {
        self.shared.free.iter().for_each(Semaphore::close);
        let mut lanes = self.shared.lanes();
        lanes.closed = true;
        for (_, slot) in lanes.lanes.iter_mut().flat_map(|lane| lane.drain(..)) {
            drop(withdraw(&slot));
        }
    }
}

impl<Job> Shared<Job> {
    /// No panic can leave the lanes half changed, so a poisoned lock is harmless.
    fn lanes(&self) -> MutexGuard<'_, Lanes<Job>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The changes of one transaction.
struct Group<Job> {
    jobs: Vec<Job>,
    size: Size,
}

impl<Job> Group<Job> {
    /// Takes the first change whose caller still waits, of any size.
    fn take_one(&mut self, lane: &mut VecDeque<(Size, Slot<Job>)>, free: &Semaphore) {
        while let Some((size, slot)) = lane.pop_front() {
            free.add_permits(1);
            if self.take(size, &slot) {
                return;
            }
        }
    }

    fn take_what_fits(&mut self, lane: &mut VecDeque<(Size, Slot<Job>)>, free: &Semaphore) {
        while let Some((size, _)) = lane.front()
            && self.size.plus(*size).fits()
            && let Some((size, slot)) = lane.pop_front()
        {
            free.add_permits(1);
            self.take(size, &slot);
        }
    }

    fn take(&mut self, size: Size, slot: &Slot<Job>) -> bool {
        let Some(job) = withdraw(slot) else { return false };
        self.size = self.size.plus(size);
        self.jobs.push(job);
        true
    }
}

/// Takes the change out of the queue when it is dropped with its caller.
struct WithdrawOnDrop<Job>(Slot<Job>);

impl<Job> Drop for WithdrawOnDrop<Job> {
    fn drop(&mut self) {
        drop(withdraw(&self.0));
    }
}

fn withdraw<Job>(slot: &Slot<Job>) -> Option<Job> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

pub(super) fn stopped() -> StoreError {
    StoreError::internal("the writer thread has stopped")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt;

    use super::*;

    type Asked<'q> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + 'q>>;

    /// Queues a change of this number of users.
    fn ask<'q>(queue: &'q Queue<(usize, Reply<()>)>, users: usize) -> Asked<'q> {
        let size = Size { users, bytes: 0 };
        let mut asked: Asked<'_> = Box::pin(queue.ask(size, move |reply| (users, reply)));
        assert!(asked.as_mut().now_or_never().is_none());
        asked
    }

    /// The number of users of each change in the next group.
    fn next(groups: &Groups<(usize, Reply<()>)>) -> Vec<usize> {
        groups.group().into_iter().map(|(users, _)| users).collect()
    }

    #[test]
    fn queue_single_waits_for_one_large_batch() {
        let (queue, groups) = queue();
        let _large: Vec<_> = (0..250).map(|_| ask(&queue, 10_000)).collect();
        assert_eq!(next(&groups), [10_000]);
        for _ in 0..100 {
            let _single = ask(&queue, 1);
            assert_eq!(next(&groups), [1]);
            assert_eq!(next(&groups), [10_000]);
        }
    }

    #[test]
    fn queue_chunk_does_not_wait_for_all_large_batches() {
        let (queue, groups) = queue();
        let _large: Vec<_> = (0..3).map(|_| ask(&queue, 2000)).collect();
        let _chunk = ask(&queue, 256);
        assert_eq!(next(&groups), [256]);
        assert_eq!([next(&groups), next(&groups), next(&groups)], [[2000], [2000], [2000]]);
        assert!(next(&groups).is_empty());
    }

    #[test]
    fn queue_group_is_bounded_by_users_and_bytes() {
        let (queue, groups) = queue();
        let _chunks: Vec<_> = (0..9).map(|_| ask(&queue, 256)).collect();
        let _singles: Vec<_> = (0..300).map(|_| ask(&queue, 1)).collect();
        for users in [812, 1024, 768] {
            assert_eq!(next(&groups).iter().sum::<usize>(), users);
        }
        let size = Size { users: 2, bytes: MAX_BYTES / 2 + 1 };
        let mut long: Vec<_> = (0..2).map(|_| Box::pin(queue.ask(size, |it| (2, it)))).collect();
        long.iter_mut().for_each(|it| assert!(it.as_mut().now_or_never().is_none()));
        assert_eq!([next(&groups), next(&groups)], [[2], [2]]);
        assert_eq!(Size { users: 2, bytes: MAX_BYTES + 1 }.lane(), Lane::Large);
    }

    #[test]
    fn queue_singles_do_not_starve_chunks() {
        let (queue, groups) = queue();
        let _singles: Vec<_> = (0..QUEUE_LEN).map(|_| ask(&queue, 1)).collect();
        let _chunk = ask(&queue, 256);
        assert!(next(&groups).contains(&256));
    }

    #[test]
    fn queue_frees_changes_of_disconnected_callers() {
        let (queue, groups) = queue();
        let held = Arc::new(());
        let job = held.clone();
        let mut gone = Box::pin(queue.ask(Size::ONE, |reply: Reply<()>| (job, reply)));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(groups.group().is_empty());
        assert_eq!(groups.shared.free[0].available_permits(), QUEUE_LEN);
    }

    #[test]
    fn queue_full_of_batches_admits_singles() {
        let (queue, groups) = queue();
        let _large: Vec<_> = (0..=QUEUE_LEN).map(|_| ask(&queue, 5000)).collect();
        let _single = ask(&queue, 1);
        assert_eq!(next(&groups), [1]);
    }

    #[tokio::test]
    async fn queue_fails_callers_when_the_writer_stops() {
        let (queue, groups) = queue();
        let waiting = ask(&queue, 1);
        drop(groups);
        assert!(waiting.await.unwrap_err().is_internal());
        assert!(queue.ask(Size::ONE, |reply: Reply<()>| (1, reply)).await.is_err());
    }

    #[tokio::test]
    async fn queue_ends_the_writer_without_callers() {
        let (queue, mut groups) = queue();
        queue.try_put(1);
        assert_eq!(groups.next().await, Some(vec![1]));
        drop(queue);
        assert_eq!(groups.next().await, None);
    }
}

//! The queue of reads: single users first, then scans in turns.
//!
//! ```text
//!  get ──> points ─────────────────────────────────> any reader, before all scans
//!  scan ─> scans ──> does the caller still wait? ──> a reader, if few enough of them scan
//! ```
//!
//! A turn is one page. If other reads wait, the scan then moves to the end of the queue.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use tokio::sync::{Semaphore, mpsc};

use super::cursor::Cursor;
use super::write_queue::stopped;
use super::{Page, Reply, StoreError};
use crate::domain::{User, UserId};

/// The maximum number of readers that scan at the same time. The others remain free for single users, however many scans
/// wait.
const MAX_SCANNERS: usize = 2;

/// The maximum length of the queue for each kind of read. Further reads wait for a free position, in order of arrival.
const QUEUE_LEN: usize = 1024;

/// A read of one user.
pub(super) struct Point {
    pub(super) id: UserId,
    pub(super) reply: Reply<Option<Arc<User>>>,
}

/// A read of the next pages of a scan, as many as fit into the channel.
pub(super) struct Scan {
    pub(super) cursor: Cursor,
    pub(super) pages: mpsc::Sender<Answer>,
}

/// A page, and the position after it; `None` if the scan is over.
pub(super) type Piece = (Page, Option<Cursor>);

/// The answer to a scan. On the heap, because a channel reserves memory for 32 answers.
pub(super) type Answer = Box<Result<Piece, StoreError>>;

/// The next read of a reader.
pub(super) enum Read<'q> {
    Point(Point),
    Scan(Scan, Turn<'q>),
}

pub(super) struct Queue {
    /// The maximum number of readers that scan.
    scanners: usize,
    waiting: Mutex<Waiting>,
    /// Notified of a new read, and when the queue is closed.
    changed: Condvar,
    free_points: Semaphore,
    free_scans: Semaphore,
}

#[derive(Default)]
struct Waiting {
    points: VecDeque<Point>,
    scans: VecDeque<Scan>,
    /// The number of readers that scan.
    scanning: usize,
    closed: bool,
}

impl Queue {
    /// A queue for readers. Scans use at most half of the machine's cores.
    pub(super) fn new() -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self::with_scanners((cores / 2).clamp(1, MAX_SCANNERS))
    }

    fn with_scanners(scanners: usize) -> Self {
        Self {
            scanners,
            waiting: Mutex::default(),
            changed: Condvar::new(),
            free_points: Semaphore::new(QUEUE_LEN),
            free_scans: Semaphore::new(QUEUE_LEN),
        }
    }

    /// Queues a read. Waits for a free position. Cancel safe.
    pub(super) async fn put_point(&self, point: Point) -> Result<(), StoreError> {
        self.free_points.acquire().await.map_err(|_| stopped())?.forget();
        self.waiting().points.push_back(point);
        self.changed.notify_one();
        Ok(())
    }

    /// Queues a read. Waits for a free position. Cancel safe.
    pub(super) async fn put_scan(&self, scan: Scan) -> Result<(), StoreError> {
        self.free_scans.acquire().await.map_err(|_| stopped())?.forget();
        self.waiting().scans.push_back(scan);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for a read. `None` once the queue is closed and empty.
    pub(super) fn take(&self) -> Option<Read<'_>> {
        let mut waiting = self.waiting();
        loop {
            if let Some(read) = self.next(&mut waiting) {
                return Some(read);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next read. Skips reads whose callers have disconnected.
    fn next(&self, waiting: &mut Waiting) -> Option<Read<'_>> {
        while let Some(point) = waiting.points.pop_front() {
            self.free_points.add_permits(1);
            if !point.reply.is_closed() {
                return Some(Read::Point(point));
            }
        }
        while waiting.scanning < self.scanners
            && let Some(scan) = waiting.scans.pop_front()
        {
            self.free_scans.add_permits(1);
            if !scan.pages.is_closed() {
                waiting.scanning += 1;
                return Some(Read::Scan(scan, Turn(self)));
            }
        }
        None
    }

    /// Closes the queue. Queued reads are still answered.
    pub(super) fn close(&self) {
        self.free_points.close();
        self.free_scans.close();
        self.waiting().closed = true;
        self.changed.notify_all();
    }

    /// No panic can leave the queue half changed, so a poisoned lock is harmless.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of a scan. It ends when this is dropped.
pub(super) struct Turn<'q>(&'q Queue);

impl Turn<'_> {
    /// Whether another read waits, so that the scan must stop after its page.
    pub(super) fn is_over(&self) -> bool {
        let waiting = self.0.waiting();
        !waiting.points.is_empty() || !waiting.scans.is_empty()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.scanning -= 1;
        // The reader of this turn may take a single user next, so another reader is woken for the scan.
        if !waiting.scans.is_empty() {
            self.0.changed.notify_one();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;
    use uuid::Uuid;

    use super::super::Extent;
    use super::*;

    /// The receiver of a scan.
    type Pages = mpsc::Receiver<Answer>;

    fn put_scan(queue: &Queue, len: usize) -> Pages {
        let (pages, coming) = mpsc::channel(1);
        let extent = Extent { total: 1, newest: Some(Uuid::max().into()) };
        let cursor = Cursor { len, ..Cursor::new(None, extent).unwrap() };
        queue.put_scan(Scan { cursor, pages }).now_or_never().unwrap().unwrap();
        coming
    }

    fn put_point(queue: &Queue) -> oneshot::Receiver<Result<Option<Arc<User>>, StoreError>> {
        let (reply, answer) = oneshot::channel();
        let point = Point { id: Uuid::nil().into(), reply };
        queue.put_point(point).now_or_never().unwrap().unwrap();
        answer
    }

    /// The next read of a reader; `None` if it would wait.
    fn next(queue: &Queue) -> Option<Read<'_>> {
        queue.next(&mut queue.waiting())
    }

    /// The next scan, identified by the length of its page.
    fn next_scan(queue: &Queue) -> Option<(usize, Turn<'_>)> {
        match next(queue)? {
            Read::Scan(scan, turn) => Some((scan.cursor.len, turn)),
            Read::Point(_) => panic!("a point is next"),
        }
    }

    #[test]
    fn read_queue_prefers_single_users_to_scans() {
        let queue = Queue::new();
        let _scans = [put_scan(&queue, 1), put_scan(&queue, 2)];
        let _points = [put_point(&queue), put_point(&queue)];
        for _ in 0..2 {
            assert!(matches!(next(&queue), Some(Read::Point(_))));
        }
        assert_eq!(next_scan(&queue).unwrap().0, 1);
    }

    #[test]
    fn read_queue_leaves_readers_to_single_users() {
        const { assert!(MAX_SCANNERS < super::super::READERS) };
        let queue = Queue::with_scanners(MAX_SCANNERS);
        let _scans: Vec<_> = (0..100).map(|len| put_scan(&queue, len)).collect();
        let mut turns: Vec<_> = (0..MAX_SCANNERS).map(|_| next_scan(&queue).unwrap().1).collect();
        assert!(next(&queue).is_none());
        let _point = put_point(&queue);
        assert!(matches!(next(&queue), Some(Read::Point(_))));
        turns.pop();
        assert_eq!(next_scan(&queue).unwrap().0, MAX_SCANNERS);
    }

    #[test]
    fn read_queue_alternates_scans() {
        let queue = Queue::new();
        let _first = put_scan(&queue, 1);
        let turn = next_scan(&queue).unwrap().1;
        assert!(!turn.is_over());
        let _second = put_scan(&queue, 2);
        assert!(turn.is_over());
        drop(turn);
        let _first = put_scan(&queue, 1);
        assert_eq!(next_scan(&queue).unwrap().0, 2);
        assert_eq!(next_scan(&queue).unwrap().0, 1);
    }

    #[test]
    fn scan_stops_after_its_page_for_a_single_user() {
        let queue = Queue::new();
        let _scan = put_scan(&queue, 1);
        let turn = next_scan(&queue).unwrap().1;
        let _point = put_point(&queue);
        assert!(turn.is_over());
    }

    #[test]
    fn read_queue_skips_disconnected_callers() {
        let queue = Queue::new();
        drop(put_point(&queue));
        let scans: Vec<_> = (0..100).map(|len| put_scan(&queue, len)).collect();
        let _last = scans.into_iter().last();
        assert_eq!(next_scan(&queue).unwrap().0, 99);
        assert_eq!(queue.free_scans.available_permits(), QUEUE_LEN);
        assert_eq!(queue.free_points.available_permits(), QUEUE_LEN);
    }

    #[test]
    fn read_queue_full_of_scans_admits_single_users() {
        let queue = Queue::new();
        let _scans: Vec<_> = (0..QUEUE_LEN).map(|len| put_scan(&queue, len)).collect();
        let (pages, _coming) = mpsc::channel(1);
        let extent = Extent { total: 1, newest: Some(Uuid::max().into()) };
        let cursor = Cursor::new(None, extent).unwrap();
        assert!(queue.put_scan(Scan { cursor, pages }).now_or_never().is_none());
        let _point = put_point(&queue);
        assert!(matches!(next(&queue), Some(Read::Point(_))));
    }

    #[test]
    fn read_queue_ends_when_closed_and_empty() {
        let queue = Queue::new();
        let _point = put_point(&queue);
        queue.close();
        assert!(queue.take().is_some());
        assert!(queue.take().is_none());
        let (reply, _answer) = oneshot::channel();
        let point = Point { id: Uuid::nil().into(), reply };
        assert!(queue.put_point(point).now_or_never().unwrap().is_err());
    }
}

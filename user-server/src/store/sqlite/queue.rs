//! Where reads wait for a reader: points first, then scans by turns.
//!
//! ```text
//!  get ──> points ──────────────────────────────> any reader, before all scans
//!  scan ─> scans ──> whose caller still waits? ──> a reader, if few enough scan
//! ```
//!
//! A turn is a page. A scan that goes on while others wait stands behind them in the queue.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use tokio::sync::{Semaphore, mpsc};

use super::order::Rest;
use super::turns::stopped;
use super::{Page, Reply, StoreError};
use crate::domain::{User, UserId};

/// Readers that scan at a time, at most. The others are free for points, however many scans there
/// are.
const MAX_SCANNERS: usize = 2;

/// How many reads of a kind wait in the queue at most; more wait to be let in, in the order in which
/// they came.
const QUEUE_LEN: usize = 1024;

/// One user.
pub(super) struct Point {
    pub(super) id: UserId,
    pub(super) reply: Reply<Option<Arc<User>>>,
}

/// Some pages of a scan, as many as there is room for.
pub(super) struct Scan {
    pub(super) rest: Rest,
    pub(super) pages: mpsc::Sender<Result<Piece, StoreError>>,
}

/// A page, and what is left of its scan.
pub(super) type Piece = (Page, Option<Rest>);

/// What a reader does next.
pub(super) enum Read<'q> {
    Point(Point),
    Scan(Scan, Turn<'q>),
}

pub(super) struct Queue {
    /// Readers that may scan at a time.
    scanners: usize,
    waiting: Mutex<Waiting>,
    /// There is something to do, or nothing any more.
    changed: Condvar,
    room_for_points: Semaphore,
    room_for_scans: Semaphore,
}

#[derive(Default)]
struct Waiting {
    points: VecDeque<Point>,
    scans: VecDeque<Scan>,
    /// Readers that scan.
    scanning: usize,
    closed: bool,
}

impl Queue {
    /// For readers of which so many may scan at a time as leave half of the machine's cores to calls.
    pub(super) fn new() -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self::with_scanners((cores / 2).clamp(1, MAX_SCANNERS))
    }

    fn with_scanners(scanners: usize) -> Self {
        Self {
            scanners,
            waiting: Mutex::default(),
            changed: Condvar::new(),
            room_for_points: Semaphore::new(QUEUE_LEN),
            room_for_scans: Semaphore::new(QUEUE_LEN),
        }
    }

    /// Waits for room. Cancel safe.
    pub(super) async fn put_point(&self, point: Point) -> Result<(), StoreError> {
        self.room_for_points.acquire().await.map_err(|_| stopped())?.forget();
        self.waiting().points.push_back(point);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for room. Cancel safe.
    pub(super) async fn put_scan(&self, scan: Scan) -> Result<(), StoreError> {
        self.room_for_scans.acquire().await.map_err(|_| stopped())?.forget();
        self.waiting().scans.push_back(scan);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for something to do. `None` once the queue is closed and empty.
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

    /// Passes over reads that nobody waits for any more.
    fn next(&self, waiting: &mut Waiting) -> Option<Read<'_>> {
        while let Some(point) = waiting.points.pop_front() {
            self.room_for_points.add_permits(1);
            if !point.reply.is_closed() {
                return Some(Read::Point(point));
            }
        }
        while waiting.scanning < self.scanners
            && let Some(scan) = waiting.scans.pop_front()
        {
            self.room_for_scans.add_permits(1);
            if !scan.pages.is_closed() {
                waiting.scanning += 1;
                return Some(Read::Scan(scan, Turn(self)));
            }
        }
        None
    }

    /// Lets nothing more in. What waits is still done.
    pub(super) fn close(&self) {
        self.room_for_points.close();
        self.room_for_scans.close();
        self.waiting().closed = true;
        self.changed.notify_all();
    }

    /// Nothing here is ever half done.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader's turn at a scan, until it is dropped.
pub(super) struct Turn<'q>(&'q Queue);

impl Turn<'_> {
    /// Whether another read waits, so that the scan is to stop behind its page.
    pub(super) fn is_over(&self) -> bool {
        let waiting = self.0.waiting();
        !waiting.points.is_empty() || !waiting.scans.is_empty()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.scanning -= 1;
        // The reader that had this turn may take a point next: another one has to see that scan.
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

    /// Of a call that still waits for it.
    type Pages = mpsc::Receiver<Result<Piece, StoreError>>;

    fn put_scan(queue: &Queue, len: usize) -> Pages {
        let (pages, coming) = mpsc::channel(1);
        let extent = Extent { total: 1, newest: Some(Uuid::max().into()) };
        let rest = Rest { len, ..Rest::new(None, extent).unwrap() };
        queue.put_scan(Scan { rest, pages }).now_or_never().unwrap().unwrap();
        coming
    }

    fn put_point(queue: &Queue) -> oneshot::Receiver<Result<Option<Arc<User>>, StoreError>> {
        let (reply, answer) = oneshot::channel();
        let point = Point { id: Uuid::nil().into(), reply };
        queue.put_point(point).now_or_never().unwrap().unwrap();
        answer
    }

    /// What a reader would do now; `None` if it would wait.
    fn next(queue: &Queue) -> Option<Read<'_>> {
        queue.next(&mut queue.waiting())
    }

    /// The scan that is next, by the length of its page.
    fn next_scan(queue: &Queue) -> Option<(usize, Turn<'_>)> {
        match next(queue)? {
            Read::Scan(scan, turn) => Some((scan.rest.len, turn)),
            Read::Point(_) => panic!("a point is next"),
        }
    }

    #[test]
    fn points_are_read_before_scans_that_came_earlier() {
        let queue = Queue::new();
        let _scans = [put_scan(&queue, 1), put_scan(&queue, 2)];
        let _points = [put_point(&queue), put_point(&queue)];
        for _ in 0..2 {
            assert!(matches!(next(&queue), Some(Read::Point(_))));
        }
        assert_eq!(next_scan(&queue).unwrap().0, 1);
    }

    #[test]
    fn scans_leave_readers_to_points() {
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
    fn scans_take_turns_while_others_wait() {
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
    fn a_scan_stops_behind_its_page_for_a_point() {
        let queue = Queue::new();
        let _scan = put_scan(&queue, 1);
        let turn = next_scan(&queue).unwrap().1;
        let _point = put_point(&queue);
        assert!(turn.is_over());
    }

    #[test]
    fn reads_whose_caller_is_gone_are_passed_over() {
        let queue = Queue::new();
        drop(put_point(&queue));
        let scans: Vec<_> = (0..100).map(|len| put_scan(&queue, len)).collect();
        let _last = scans.into_iter().last();
        assert_eq!(next_scan(&queue).unwrap().0, 99);
        assert_eq!(queue.room_for_scans.available_permits(), QUEUE_LEN);
        assert_eq!(queue.room_for_points.available_permits(), QUEUE_LEN);
    }

    #[test]
    fn a_queue_full_of_scans_lets_points_in() {
        let queue = Queue::new();
        let _scans: Vec<_> = (0..QUEUE_LEN).map(|len| put_scan(&queue, len)).collect();
        let (pages, _coming) = mpsc::channel(1);
        let extent = Extent { total: 1, newest: Some(Uuid::max().into()) };
        let rest = Rest::new(None, extent).unwrap();
        assert!(queue.put_scan(Scan { rest, pages }).now_or_never().is_none());
        let _point = put_point(&queue);
        assert!(matches!(next(&queue), Some(Read::Point(_))));
    }

    #[test]
    fn a_closed_queue_ends_when_it_is_empty() {
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

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;

/// Threads beyond this many share lanes: a lane takes some 250 bytes for each method.
const MOST_LANES: usize = 32;

/// Numbers that many threads count up, and few read: a row for each method, in a copy for each
/// thread (a *lane*), so that workers do not wait for each other's cache lines.
pub(super) struct Table {
    lanes: Box<[Box<[AtomicU64]>]>,
    columns: usize,
}

/// One row in the lane of one thread.
pub(super) struct Row<'a>(&'a [AtomicU64]);

impl Table {
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        let threads = available_parallelism().map_or(1, usize::from);
        let lane = |_| (0..rows * columns).map(|_| AtomicU64::new(0)).collect();
        Self { lanes: (0..threads.min(MOST_LANES)).map(lane).collect(), columns }
    }

    /// The row in the lane of this thread.
    pub(super) fn row(&self, row: usize) -> Row<'_> {
        let lane = &self.lanes[number_of_thread() % self.lanes.len()];
        Row(&lane[row * self.columns..][..self.columns])
    }

    /// The sums of a row over all lanes. They are read from the last column to the first, so that
    /// what is counted later in a call does not come out as more than what is counted earlier.
    pub(super) fn sums(&self, row: usize) -> Vec<u64> {
        let mut sums = vec![0; self.columns];
        for (column, sum) in sums.iter_mut().enumerate().rev() {
            let cells = self.lanes.iter().map(|lane| &lane[row * self.columns + column]);
            *sum = cells.map(|cell| cell.load(Ordering::Relaxed)).sum();
        }
        sums
    }
}

impl Row<'_> {
    pub(super) fn add(&self, column: usize, count: u64) {
        // Nothing is ordered by these numbers: they only have to add up.
        self.0[column].fetch_add(count, Ordering::Relaxed);
    }
}

/// Threads are numbered as they first come here, so that workers have lanes of their own.
fn number_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_adds_up() {
        let table = Table::new(3, 2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| table.row(1).add(1, 2)));
            }
        });
        assert_eq!([0, 1, 2].map(|row| table.sums(row)), [[0, 0], [0, 8000], [0, 0]]);
    }
}

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;

/// Further threads share lanes: a lane takes some 250 bytes for each method.
const MOST_LANES: usize = 32;

/// Counters that many threads increment and few read. Each method has a row, and each thread has a copy
/// of the rows (a *lane*), so that workers do not contend for cache lines.
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

    /// The sums of a row over all lanes. They are read from the last column to the first. So a counter
    /// of the end of a call is never above a counter of its start.
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
        // Relaxed: only the sum matters, not the order.
        self.0[column].fetch_add(count, Ordering::Relaxed);
    }
}

/// Numbers threads at their first call, so that workers have lanes of their own.
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
    fn metrics_table_sums_all_threads() {
        let table = Table::new(3, 2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| table.row(1).add(1, 2)));
            }
        });
        assert_eq!([0, 1, 2].map(|row| table.sums(row)), [[0, 0], [0, 8000], [0, 0]]);
    }
}

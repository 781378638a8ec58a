use std::sync::atomic::{AtomicU32, Ordering};

/// A counter that is reset each time it is read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU32);

impl Counter {
    pub(crate) fn add(&self, count: u32) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn take(&self) -> u32 {
        // Usually zero, and a load is cheaper than a swap.
        if self.0.load(Ordering::Relaxed) == 0 { 0 } else { self.0.swap(0, Ordering::Relaxed) }
    }
}

use std::time::{Duration, Instant};

/// A connection's clock. It is read once per polled call. One reading measures the call and checks
/// the time slice.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The length of a slice.
    slice: Duration,
    /// The last reading.
    now: Instant,
    /// The elapsed part of the slice.
    spent: Duration,
}

impl Clock {
    pub(crate) fn new(slice: Duration) -> Self {
        Self { slice, now: Instant::now(), spent: Duration::ZERO }
    }

    /// Reads the clock. Returns the time since the last reading.
    pub(crate) fn update(&mut self) -> Duration {
        let earlier = std::mem::replace(&mut self.now, Instant::now());
        let passed = self.now.saturating_duration_since(earlier);
        self.spent += passed;
        passed
    }

    /// The last reading.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Starts a slice at the last reading.
    pub(crate) fn start_slice(&mut self) {
        self.spent = Duration::ZERO;
    }

    /// Whether the slice had ended at the last reading.
    pub(crate) fn is_over(&self) -> bool {
        self.spent >= self.slice
    }
}

use std::time::{Duration, Instant};

/// A connection's clock. It is looked at once for each call that is polled, and tells from that how
/// long the call has taken, and whether it is time to let others have theirs.
#[derive(Debug)]
pub(crate) struct Clock {
    /// How much time is a slice.
    slice: Duration,
    /// When it was last looked at.
    now: Instant,
    /// What has gone by of the slice.
    spent: Duration,
}

impl Clock {
    pub(crate) fn new(slice: Duration) -> Self {
        Self { slice, now: Instant::now(), spent: Duration::ZERO }
    }

    /// Looks at the clock, and gives the time since it was last looked at.
    pub(crate) fn update(&mut self) -> Duration {
        let earlier = std::mem::replace(&mut self.now, Instant::now());
        let passed = self.now.saturating_duration_since(earlier);
        self.spent += passed;
        passed
    }

    /// When it was last looked at.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Starts a slice at the last look.
    pub(crate) fn start_slice(&mut self) {
        self.spent = Duration::ZERO;
    }

    /// Whether the slice was over at the last look.
    pub(crate) fn is_over(&self) -> bool {
        self.spent >= self.slice
    }
}

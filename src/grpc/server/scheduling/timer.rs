use std::pin::Pin;
use std::time::Duration;

use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer outside tokio's cooperative budget. A connection has one budget per poll. A handler that
/// always finds something ready uses it up, and a timer within the budget would then never expire.
pub(crate) type Timer = Pin<Box<Unconstrained<Sleep>>>;

pub(crate) fn timer_at(deadline: Instant) -> Timer {
    Box::pin(unconstrained(sleep_until(deadline)))
}

pub(crate) fn timer_after(time: Duration) -> Timer {
    timer_at(later(time))
}

/// Returns the instant `time` from now, or in a century if that is sooner.
pub(crate) fn later(time: Duration) -> Instant {
    /// A century, which can be added to any current instant.
    const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now() + time.min(FAR)
}

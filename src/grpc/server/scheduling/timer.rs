use std::pin::Pin;
use std::time::Duration;

use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer outside of tokio's cooperative budget. All of a connection shares one budget per poll,
/// and a handler that always finds something ready uses it up: its own deadline, and the server's
/// drain, would then never be seen to have come.
pub(crate) type Timer = Pin<Box<Unconstrained<Sleep>>>;

pub(crate) fn timer_at(deadline: Instant) -> Timer {
    Box::pin(unconstrained(sleep_until(deadline)))
}

pub(crate) fn timer_after(time: Duration) -> Timer {
    timer_at(later(time))
}

/// That much later than now; the end of time, as far as clocks go, if that is too much.
pub(crate) fn later(time: Duration) -> Instant {
    /// A century: what can still be added to any instant.
    const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now() + time.min(FAR)
}

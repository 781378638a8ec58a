//! Assigns work to threads and time: workers, the runtime of spawned handlers, timers, and the
//! detection of slow polls.

pub(crate) mod clock;
pub(crate) mod handler_runtime;
pub(crate) mod polled_method;
pub(crate) mod slow_polls;
pub(crate) mod timer;
pub(crate) mod workers;

/// The time slice of a connection: half for new calls and half for woken calls, before other
/// connections of the worker are polled. It fits two hundred unary calls, so the cost of a turn,
/// some microseconds, is small. A single poll that takes longer is a slow poll.
pub(crate) const TIME_SLICE: std::time::Duration = std::time::Duration::from_millis(1);

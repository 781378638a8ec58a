//! Which thread does what, and when: workers, the runtime of spawned handlers, timers, and polls that take too long.

pub(crate) mod clock;
pub(crate) mod handler_runtime;
pub(crate) mod polled_method;
pub(crate) mod slow_polls;
pub(crate) mod timer;
pub(crate) mod workers;

/// How long a connection handles its new calls, and again its pending calls, before other connections of its worker
/// have their turn: two hundred unary calls, beside which the price of a turn, some microseconds, is small. A single
/// poll that takes longer is a slow poll.
pub(crate) const TIME_SLICE: std::time::Duration = std::time::Duration::from_millis(1);

//! Which thread does what, and when: workers, the runtime of spawned handlers, timers, and polls that take too long.

pub(crate) mod clock;
pub(crate) mod handler_runtime;
pub(crate) mod polled_method;
pub(crate) mod slow_polls;
pub(crate) mod timer;
pub(crate) mod workers;

//! Limits on clients: pings, floods of frames, memory, and the duration of calls and connections.

pub(crate) mod budget;
pub(crate) mod call_limits;
pub(crate) mod data_throttle;
pub(crate) mod enforcement;
mod frame_budget;
pub(crate) mod lifetime;
pub(crate) mod offenders;
pub(crate) mod pings;
pub(crate) mod shared_state;

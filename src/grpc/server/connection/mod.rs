//! Serves one connection and its calls: reads from the socket, passes bytes to the calls, polls
//! them, and writes the responses.

pub(crate) mod context;
pub(crate) mod linger;
pub(crate) mod non_grpc;
mod pending_calls;
pub(crate) mod serve;
mod server_call;
pub(crate) mod turn_waker;
mod turns;

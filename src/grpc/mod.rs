//! The protocol and its runtime. It knows nothing of the services that are built on it.
//!
//! Read in the order in which a call passes through: [`server`], [`head`], [`Router`](router::Router),
//! [`Interceptor`](interceptor::Interceptor), handlers, messages, [`frame`]. What most people need
//! is exported by the crate itself; but for the server, the modules that are public here are sans
//! I/O: they can be tested, fuzzed and measured alone.

pub(crate) mod call;
mod call_boundary;
pub(crate) mod code;
pub mod compression;
mod counter;
mod details;
pub(crate) mod exchange;
pub mod frame;
pub(crate) mod handler;
pub mod head;
mod header_list;
mod inflate;
mod inflate_budget;
#[cfg(feature = "zstd")]
mod inflate_zstd;
pub(crate) mod interceptor;
pub mod metadata;
pub(crate) mod method;
pub(crate) mod options;
mod percent;
pub(crate) mod request;
pub(crate) mod router;
pub mod server;
pub(crate) mod service;
pub(crate) mod sink;
pub(crate) mod spawned;
pub mod status;
pub(crate) mod streaming;
pub mod timeout;

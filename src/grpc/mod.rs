//! The protocol and its runtime. It depends on no interceptor and no service.
//!
//! Read the modules in the order of a call's path: [`server`], [`head`],
//! [`Router`](router::Router), [`Interceptor`](interceptor::Interceptor), `handler`, [`frame`]. The
//! crate root exports the most used types. The public modules other than [`server`] are sans I/O,
//! so they can be tested, fuzzed and measured alone.

pub(crate) mod call;
mod call_boundary;
pub(crate) mod code;
pub mod compression;
mod counter;
mod details;
pub(crate) mod encoded;
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

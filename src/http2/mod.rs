//! HTTP/2 of a server (RFC 9113), sans I/O: bytes and times go in, frames and events come out. It
//! has no tasks, and no clock of its own.
//!
//! ```text
//!  receive(bytes) --> Input ------> Connection ----> next_request(), next_event()
//!                     frames          |    ^ Policy: closes floods before more is parsed
//!                                     v
//!                                  Streams <-------> read(), send_headers(), send_data(), finish()
//!                                     |
//!                                     v
//!                                  output() -------> the bytes to write
//! ```

pub(crate) mod connection;
pub(crate) mod error_code;
pub(crate) mod frame;
pub(crate) mod hpack;
mod input;
mod output;
pub(crate) mod policy;
#[cfg(test)]
mod random;

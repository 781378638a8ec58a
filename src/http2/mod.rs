//! HTTP/2 (RFC 9113), sans I/O: bytes in, values or a typed error out. It has no tasks and no clock.

pub(crate) mod error_code;
pub(crate) mod hpack;

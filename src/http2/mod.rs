//! HTTP/2 (RFC 9113), sans I/O: bytes in, values or a typed error out.

pub(crate) mod hpack;

//! From a socket to a connection that may speak HTTP/2: listeners, TLS, the PROXY protocol, and clients of other
//! protocols.

#[cfg(feature = "tls")]
pub(crate) mod handshakes;
pub(crate) mod listener;
pub(crate) mod listeners;
pub(crate) mod other_protocol;
pub(crate) mod proxy_protocol;
pub(crate) mod stream;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(unix)]
pub(crate) mod unix_socket;

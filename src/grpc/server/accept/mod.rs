//! Accepts connections and prepares them for HTTP/2: listeners, the PROXY protocol, TLS and its
//! limits, and clients that use another protocol.

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

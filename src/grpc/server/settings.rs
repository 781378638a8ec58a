use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::grpc::options::CallOptions;
use crate::grpc::server::policy::lifetime::LifetimePolicy;
use crate::grpc::server::policy::pings::PingPolicy;
use crate::grpc::server::scheduling::TIME_SLICE;

/// An idle connection takes about 30 KiB, so these take 300 MiB. A server for more connections
/// should be configured for them.
const MAX_CONNECTIONS: usize = 10_000;

/// Eight messages of the default limit, 4 MiB, or a thousand messages of 32 KiB.
const CONNECTION_BUFFER_LIMIT: usize = 32 * 1024 * 1024;

/// Eight connections at their limit, in a process that should fit into 512 MiB.
const SERVER_BUFFER_LIMIT: usize = 256 * 1024 * 1024;

/// Ten thousand clients behind one address can reconnect within two minutes.
#[cfg(feature = "tls")]
const HANDSHAKES_PER_MINUTE: u32 = 6000;

/// An implementation of HTTP/2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Http2 {
    /// The crate h2.
    #[default]
    H2,
    /// The engine of this crate. It takes less CPU time and memory, and enforces its limits before
    /// it handles a frame. Its windows grow with the bandwidth. It is newer than h2 and less proven.
    Native,
}

impl Http2 {
    /// The name in settings: `h2` or `native`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::H2 => "h2",
            Self::Native => "native",
        }
    }
}

impl fmt::Display for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Accepts a [`name`](Http2::name).
impl FromStr for Http2 {
    type Err = UnknownHttp2;

    fn from_str(name: &str) -> Result<Self, UnknownHttp2> {
        [Self::H2, Self::Native].into_iter().find(|it| it.name() == name).ok_or(UnknownHttp2)
    }
}

/// The name of no implementation of [`Http2`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownHttp2;

impl fmt::Display for UnknownHttp2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown implementation of HTTP/2: wanted h2 or native")
    }
}

impl std::error::Error for UnknownHttp2 {}

/// The settings of a server and of its connections.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) http2: Http2,
    pub(super) max_connections: usize,
    pub(super) max_concurrent_streams: u32,
    pub(super) max_header_list_size: u32,
    pub(super) require_te_trailers: bool,
    /// Options of calls for which the service and the method set nothing.
    pub(super) calls: CallOptions,
    /// Bytes that a client may have in flight on a stream. Over the engine, the window grows if it
    /// limits the client.
    pub(super) stream_window: u32,
    /// The same for all streams of a connection. It grows in proportion, up to
    /// [`max_connection_window`](Self::max_connection_window).
    pub(super) connection_window: u32,
    /// Memory of the calls of one connection, in bytes.
    pub(super) connection_buffer_limit: usize,
    /// Memory of all calls, in bytes.
    pub(super) server_buffer_limit: usize,
    pub(super) handshake_timeout: Duration,
    /// TLS handshakes of one address per minute. `None` is no limit.
    #[cfg(feature = "tls")]
    pub(super) handshakes_per_minute: Option<u32>,
    pub(super) drain_timeout: Duration,
    pub(super) lifetime: LifetimePolicy,
    pub(super) pings: PingPolicy,
    /// [`TIME_SLICE`], except in benchmarks and tests.
    pub(super) time_slice: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http2: Http2::default(),
            max_connections: MAX_CONNECTIONS,
            // Ten times the minimum that RFC 9113 (6.5.2) recommends.
            max_concurrent_streams: 1000,
            // As in hyper and nginx. grpc-java sends at most 8 KiB.
            max_header_list_size: 16 * 1024,
            // Not every client sends it.
            require_te_trailers: false,
            calls: CallOptions::new(),
            // Bytes in flight per stream: 1 Gbit/s at a round trip of 2 ms.
            stream_window: 256 * 1024,
            // Several streams at full speed, and a limit for data that h2 holds unread.
            connection_window: 1024 * 1024,
            connection_buffer_limit: CONNECTION_BUFFER_LIMIT,
            server_buffer_limit: SERVER_BUFFER_LIMIT,
            handshake_timeout: Duration::from_secs(10),
            #[cfg(feature = "tls")]
            handshakes_per_minute: Some(HANDSHAKES_PER_MINUTE),
            drain_timeout: Duration::from_secs(30),
            lifetime: LifetimePolicy::default(),
            pings: PingPolicy::default(),
            time_slice: TIME_SLICE,
        }
    }
}

impl Settings {
    /// The limit up to which the engine grows the window of a connection: a quarter of its buffer
    /// limit, so that calls which stop to read do not use up the memory of the others.
    pub(super) fn max_connection_window(&self) -> u32 {
        let quarter = u32::try_from(self.connection_buffer_limit / 4).unwrap_or(u32::MAX);
        quarter.max(self.connection_window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_may_grow_to_a_quarter_of_the_buffer_limit() {
        let mut settings = Settings::default();
        for (limit, most) in [(32 << 20, 8 << 20), (16 << 20, 4 << 20), (0, 1 << 20)] {
            settings.connection_buffer_limit = limit;
            assert_eq!(settings.max_connection_window(), most, "buffer limit {limit}");
        }
    }

    #[test]
    fn http2_is_parsed_by_its_name() {
        for http2 in [Http2::H2, Http2::Native] {
            assert_eq!(http2.to_string().parse(), Ok(http2));
        }
        assert_eq!("H2".parse::<Http2>(), Err(UnknownHttp2));
    }
}

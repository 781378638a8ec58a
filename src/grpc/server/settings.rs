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

/// The settings of a server and of its connections.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) max_connections: usize,
    pub(super) max_concurrent_streams: u32,
    pub(super) max_header_list_size: u32,
    pub(super) require_te_trailers: bool,
    /// Options of calls for which the service and the method set nothing.
    pub(super) calls: CallOptions,
    pub(super) stream_window: u32,
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

/// Response bytes that h2 may hold per stream while the socket is busy. Slow readers then cost
/// little memory; h2's default is 400 KiB.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that h2 remembers after it has reset them, and for how long. Frames that a client still
/// sends on them are ignored. Frames on older streams get another RST_STREAM. A stream takes 0.5
/// KiB. The time covers frames in flight, and allows 400 resets a second.
const REMEMBERED_RESETS: usize = 2000;
const REMEMBERED_FOR: Duration = Duration::from_secs(5);

impl Settings {
    pub(super) fn h2(&self) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder
            .max_concurrent_streams(self.max_concurrent_streams)
            .max_header_list_size(self.max_header_list_size)
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_send_buffer_size(SEND_BUFFER)
            // A burst of cancellations is not an attack, unless it exceeds the number of streams.
            .max_pending_accept_reset_streams(self.max_concurrent_streams as usize)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .reset_stream_duration(REMEMBERED_FOR)
            // These two limits count over the life of a connection, so honest clients reach them.
            // `policy` limits the same events by rate.
            .data_frame_budget(usize::MAX)
            .max_local_error_reset_streams(None);
        builder
    }
}

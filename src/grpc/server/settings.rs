use std::time::Duration;

use crate::grpc::options::CallOptions;
use crate::grpc::server::policy::lifetime::LifetimePolicy;
use crate::grpc::server::policy::pings::PingPolicy;
use crate::grpc::server::scheduling::TIME_SLICE;

/// Idle connections take some 30 KiB each, so these take 300 MiB; a server that is to have more
/// should be asked to.
const MAX_CONNECTIONS: usize = 10_000;

/// Eight messages of the default limit, 4 MiB, at a time, or a thousand of 32 KiB.
const CONNECTION_BUFFER_LIMIT: usize = 32 * 1024 * 1024;

/// Eight connections that hold all they may, in a process that should live with 512 MiB.
const SERVER_BUFFER_LIMIT: usize = 256 * 1024 * 1024;

/// Ten thousand clients behind one address are back within two minutes.
#[cfg(feature = "tls")]
const HANDSHAKES_PER_MINUTE: u32 = 6000;

/// The settings of a server and of its connections.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) max_connections: usize,
    pub(super) max_concurrent_streams: u32,
    pub(super) max_header_list_size: u32,
    pub(super) require_te_trailers: bool,
    /// Of all calls for which nothing else is set.
    pub(super) calls: CallOptions,
    pub(super) stream_window: u32,
    pub(super) connection_window: u32,
    /// For the calls of one connection together, in bytes.
    pub(super) connection_buffer_limit: usize,
    /// For all calls together, in bytes.
    pub(super) server_buffer_limit: usize,
    pub(super) handshake_timeout: Duration,
    /// Of TLS, of one address; `None` is any number.
    #[cfg(feature = "tls")]
    pub(super) handshakes_per_minute: Option<u32>,
    pub(super) drain_timeout: Duration,
    pub(super) lifetime: LifetimePolicy,
    pub(super) pings: PingPolicy,
    /// [`TIME_SLICE`], but for benchmarks and tests.
    pub(super) time_slice: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            // Ten times what RFC 9113 (6.5.2) calls the least useful, a bound all the same.
            max_concurrent_streams: 1000,
            // What hyper and nginx use; grpc-java sends at most 8 KiB.
            max_header_list_size: 16 * 1024,
            // Not every client sends it.
            require_te_trailers: false,
            calls: CallOptions::new(),
            // A client may have this much under way per stream: 1 Gbit/s at 2 ms.
            stream_window: 256 * 1024,
            // Room for several streams at full speed, and a bound for what h2 holds unread.
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

/// What h2 may hold of a stream's response while the socket is busy, so that slow readers cost
/// little: h2's own default is 400 KiB.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that h2 remembers after it has reset them, and for how long: what a client still sends on
/// them is ignored without a word. What it sends on older ones h2 answers with another reset. Half
/// a kilobyte each; the time is for what was on its way, and lets 400 streams a second be reset.
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
            // A burst of cancellations is no attack; more than there may be streams is.
            .max_pending_accept_reset_streams(self.max_concurrent_streams as usize)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .reset_stream_duration(REMEMBERED_FOR)
            // These two count for the life of a connection, and so end honest ones. `policy`
            // bounds both by rate.
            .data_frame_budget(usize::MAX)
            .max_local_error_reset_streams(None);
        builder
    }
}

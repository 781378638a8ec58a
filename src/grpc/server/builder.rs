use std::time::Duration;

use super::Server;
#[cfg(feature = "tls")]
use super::SharedTls;
use super::policy::pings::PingPolicy;
use super::settings::Http2;
use crate::grpc::options::CallOptions;

/// Settings.
impl Server {
    /// Sets the implementation of HTTP/2. The default is [`Http2::H2`].
    #[must_use]
    pub fn http2(mut self, http2: Http2) -> Self {
        self.settings.http2 = http2;
        self
    }

    /// Serves connections on this many threads, each with its own runtime. Zero, the default,
    /// serves them as tasks of the caller's runtime.
    ///
    /// A connection stays on its thread, so calls share nothing across threads. Tasks that a
    /// handler spawns run on the same thread and end with the server. Handlers that compute for
    /// long should be [spawned](crate::CallOptions::spawn).
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// Serves over TLS only. Takes a [`Tls`](crate::Tls), or a [`SharedTls`] that can be replaced while the
    /// server runs. Default: plaintext.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: impl Into<SharedTls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// Limits the TLS handshakes that one address may start per minute. For IPv6 the limit applies
    /// to the /64 network. Connections over the limit are closed at once and logged. `None` is no
    /// limit.
    ///
    /// Handshakes of all addresses together take at most half of a thread's time, so that calls on
    /// open connections continue. Default: 6,000.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn handshakes_per_minute(mut self, most: Option<u32>) -> Self {
        self.settings.handshakes_per_minute = most;
        self
    }

    /// Limits the connections that are open at a time, including connections in a handshake. A
    /// connection over the limit is closed when it is accepted, so that its client tries another
    /// server. Zero refuses all connections.
    ///
    /// Each connection takes a file descriptor. Allow the process a few more than this (`ulimit
    /// -n`). With fewer, clients wait until another connection closes. Default: 10,000.
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Self {
        self.settings.max_connections = count;
        self
    }

    /// Limits the open calls of one connection. Further calls are refused with REFUSED_STREAM,
    /// which clients retry. Default: 1,000.
    #[must_use]
    pub fn max_concurrent_streams(mut self, count: u32) -> Self {
        self.settings.max_concurrent_streams = count;
        self
    }

    /// Limits the header list of a request, in bytes as RFC 9113 (6.5.2) counts them. A larger one
    /// is answered with HTTP status 431. Default: 16 KiB.
    #[must_use]
    pub fn max_header_list_size(mut self, bytes: u32) -> Self {
        self.settings.max_header_list_size = bytes;
        self
    }

    /// Refuses calls without the header `te: trailers`, with INTERNAL. A proxy that removes this
    /// header may also drop trailers, and with them the status. Default: false.
    #[must_use]
    pub fn require_te_trailers(mut self, required: bool) -> Self {
        self.settings.require_te_trailers = required;
        self
    }

    /// Sets options for all calls: message sizes, time limits, compression, and where handlers run.
    /// Options of a service or method ([`Router::configure`](crate::Router::configure)) take
    /// precedence. Calling this again adds to the options that were set before.
    #[must_use]
    pub fn calls(mut self, options: CallOptions) -> Self {
        self.settings.calls = options.or(&self.settings.calls);
        self
    }

    /// Limits the memory that the calls of one connection hold together, in bytes. It counts
    /// request metadata, received messages until the handler takes them, and responses that the
    /// client has not read. Messages count with the size that they have in memory, compressed or
    /// not.
    ///
    /// A call that would exceed the limit ends with RESOURCE_EXHAUSTED; other calls continue. The
    /// first 4 KiB of each call are free. No message can be longer than this limit, in either
    /// direction. Over [`Http2::Native`], the flow-control window of a connection grows with its
    /// bandwidth, from 1 MiB up to a quarter of this limit. Default: 32 MiB.
    #[must_use]
    pub fn connection_buffer_limit(mut self, bytes: usize) -> Self {
        self.settings.connection_buffer_limit = bytes;
        self
    }

    /// Limits the memory that the calls of all connections hold together, in bytes. It counts the
    /// same memory as [`connection_buffer_limit`](Self::connection_buffer_limit). Default: 256 MiB.
    #[must_use]
    pub fn server_buffer_limit(mut self, bytes: usize) -> Self {
        self.settings.server_buffer_limit = bytes;
        self
    }

    /// Limits the time that a new connection may take for its TLS and HTTP/2 handshakes. Default:
    /// 10 s.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handshake_timeout = timeout;
        self
    }

    /// Closes connections without calls after this time, with a GOAWAY frame. Clients open a new
    /// connection when they need one. Default: never.
    #[must_use]
    pub fn max_connection_idle(mut self, idle: Duration) -> Self {
        self.settings.lifetime.idle = Some(idle);
        self
    }

    /// Closes connections of this age, give or take 10 %, so that clients spread over servers
    /// again. The connection then accepts no more calls, and open calls have `grace` to end. A
    /// `grace` of `None` is no limit. Default: never.
    #[must_use]
    pub fn max_connection_age(mut self, age: Duration, grace: Option<Duration>) -> Self {
        self.settings.lifetime.age = Some(age);
        self.settings.lifetime.grace = grace;
        self
    }

    /// Pings a client that has sent nothing for `time`. If it sends nothing for `timeout` after the
    /// ping, the connection is closed. This ends the calls of clients whose machine or network has
    /// failed. Default: 2 h and 20 s.
    #[must_use]
    pub fn keepalive(mut self, time: Duration, timeout: Duration) -> Self {
        self.settings.lifetime.keepalive_time = Some(time);
        self.settings.lifetime.keepalive_timeout = timeout;
        self
    }

    /// Sets the minimum interval between two pings of a client. Clients without calls may ping
    /// every two hours; `without_calls` allows them `min_interval` as well. After too many early
    /// pings the connection is closed with ENHANCE_YOUR_CALM "too_many_pings" (gRFC A8). Default: 5
    /// min, false.
    #[must_use]
    pub fn permit_pings(mut self, min_interval: Duration, without_calls: bool) -> Self {
        self.settings.pings = PingPolicy { min_interval, without_calls };
        self
    }

    /// Sets the time slice of a connection, for benchmarks on an emulated processor and for tests.
    /// Default: 1 ms.
    #[doc(hidden)]
    #[must_use]
    pub fn time_slice(mut self, time: Duration) -> Self {
        self.settings.time_slice = time;
        self
    }

    /// Sets the time that open calls have to end after a shutdown has begun. Calls that are still
    /// open then end with UNAVAILABLE.
    ///
    /// [`serve`](Self::serve) returns at most two seconds later. A thread that a handler blocks is
    /// left running. Default: 30 s.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }
}

use std::time::Duration;

use super::Server;
#[cfg(feature = "tls")]
use super::SharedTls;
use super::policy::pings::PingPolicy;
use crate::grpc::options::CallOptions;

/// The settings.
impl Server {
    /// Serves connections on this many threads, each with a runtime of its own, instead of as
    /// tasks of the caller's runtime. A connection stays on its thread, so calls share nothing
    /// across threads. Tasks that a handler spawns run on its thread, and end with the server.
    /// Handlers that compute for long are better [set to be
    /// spawned](crate::CallOptions::spawn). Zero, the default, is the caller's runtime.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// Serves over TLS, and nobody without it: a [`Tls`], or a [`SharedTls`] that may be replaced
    /// while this serves. Default: plaintext.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: impl Into<SharedTls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// TLS handshakes that an address may begin in a minute, of IPv6 its /64; more of its connections
    /// are closed at once, with a line in the log. `None` is any number. Whatever their addresses,
    /// handshakes take at most half of a thread's time, so that calls on open connections go on.
    /// Default: 6,000.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn handshakes_per_minute(mut self, most: Option<u32>) -> Self {
        self.settings.handshakes_per_minute = most;
        self
    }

    /// Connections that may be open at a time, those in their handshakes among them; more are
    /// closed as soon as they are accepted, so that their clients try another server. Each takes a
    /// file descriptor, of which the process must be allowed as many and a few more: where there
    /// are fewer (`ulimit -n`), clients wait until another connection closes. Zero serves nobody.
    /// Default: 10,000.
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Self {
        self.settings.max_connections = count;
        self
    }

    /// Calls that one connection may have open at a time; more are refused with REFUSED_STREAM,
    /// which clients retry. Default: 1,000.
    #[must_use]
    pub fn max_concurrent_streams(mut self, count: u32) -> Self {
        self.settings.max_concurrent_streams = count;
        self
    }

    /// The largest header list of a request, in bytes as RFC 9113 (6.5.2) counts them; a larger
    /// one is answered with 431. Default: 16 KiB.
    #[must_use]
    pub fn max_header_list_size(mut self, bytes: u32) -> Self {
        self.settings.max_header_list_size = bytes;
        self
    }

    /// Whether calls without the header `te: trailers` are refused, with INTERNAL: a client that
    /// leaves it out may be behind a proxy that drops trailers, and statuses with them.
    /// Default: false.
    #[must_use]
    pub fn require_te_trailers(mut self, required: bool) -> Self {
        self.settings.require_te_trailers = required;
        self
    }

    /// Sets options of all calls: limits of messages and times, compression, where handlers run. Options that are set
    /// for a service or a method ([`Router::configure`](crate::Router::configure)) come first. Calling this again adds
    /// to the options that were set before.
    #[must_use]
    pub fn calls(mut self, options: CallOptions) -> Self {
        self.settings.calls = options.or(&self.settings.calls);
        self
    }

    /// Bytes that the calls of one connection may hold in memory together: request metadata and
    /// messages until their handlers have them, compressed or not, and responses that their readers
    /// do not take. A call that would exceed it ends with RESOURCE_EXHAUSTED, and the others live
    /// on. The first 4 KiB of a call do not count; no message can be longer than this, in either
    /// direction. Default: 32 MiB.
    #[must_use]
    pub fn connection_buffer_limit(mut self, bytes: usize) -> Self {
        self.settings.connection_buffer_limit = bytes;
        self
    }

    /// The same for the calls of all connections together. Default: 256 MiB.
    #[must_use]
    pub fn server_buffer_limit(mut self, bytes: usize) -> Self {
        self.settings.server_buffer_limit = bytes;
        self
    }

    /// The time in which a new connection has to complete its handshakes: that of TLS, if it is
    /// set, and that of HTTP/2. Default: 10 s.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handshake_timeout = timeout;
        self
    }

    /// Closes connections that had no calls for this long, in an orderly way: their clients open
    /// new ones when they need them. Default: never.
    #[must_use]
    pub fn max_connection_idle(mut self, idle: Duration) -> Self {
        self.settings.lifetime.idle = Some(idle);
        self
    }

    /// Closes connections of this age, give or take a tenth, so that clients spread over servers
    /// again. No more calls are accepted then, and those that are open have `grace` to end;
    /// `None` is for ever. Default: never.
    #[must_use]
    pub fn max_connection_age(mut self, age: Duration, grace: Option<Duration>) -> Self {
        self.settings.lifetime.age = Some(age);
        self.settings.lifetime.grace = grace;
        self
    }

    /// Pings a client that has been silent for `time`, and closes the connection if it stays
    /// silent for `timeout` after that: so that calls of a client whose machine is gone end.
    /// Default: 2 h and 20 s.
    #[must_use]
    pub fn keepalive(mut self, time: Duration, timeout: Duration) -> Self {
        self.settings.lifetime.keepalive_time = Some(time);
        self.settings.lifetime.keepalive_timeout = timeout;
        self
    }

    /// The least time between two pings of a client, and whether that holds for one without calls
    /// too, which otherwise may ping every two hours. One that pings more often is sent away with
    /// ENHANCE_YOUR_CALM "too_many_pings" (gRFC A8). Default: 5 min, false.
    #[must_use]
    pub fn permit_pings(mut self, min_interval: Duration, without_calls: bool) -> Self {
        self.settings.pings = PingPolicy { min_interval, without_calls };
        self
    }

    /// Replaces the time slice of a connection, of one millisecond: for benchmarks on an emulated processor, and for
    /// tests.
    #[doc(hidden)]
    #[must_use]
    pub fn time_slice(mut self, time: Duration) -> Self {
        self.settings.time_slice = time;
        self
    }

    /// The time that calls have to end by themselves once a shutdown has begun; what is left then
    /// is ended with UNAVAILABLE. [`serve`](Self::serve) returns at most two seconds later, also
    /// where a handler blocks its thread, which is then left behind. Default: 30 s.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }
}

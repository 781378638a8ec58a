use std::time::Duration;

use super::compression::{Compression, Encoding, Encodings};

/// Settings of calls. They can be set for a server (methods of [`Server`](crate::Server)), and for
/// a service or a method ([`Router::configure`](crate::Router::configure)). A setting of the method
/// overrides one of its service, which overrides one of the server.
///
/// ```
/// use balafon::{CallOptions, Compression, Router};
/// # use balafon::services::health::Health;
/// # let service = Health::new().service();
/// let router = Router::new().add(service).configure(
///     "grpc.health.v1.Health/Check",
///     CallOptions::new().max_receive_message_size(1024).compression(Compression::off()),
/// );
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallOptions {
    pub(crate) max_receive_message_size: Option<usize>,
    pub(crate) max_send_message_size: Option<usize>,
    pub(crate) compression: Option<Compression>,
    pub(crate) accepted: Option<Encodings>,
    pub(crate) run_to_completion: Option<bool>,
    pub(crate) spawn: Option<bool>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) max_duration: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
}

impl CallOptions {
    /// The default limit of received messages, in bytes; also the default of grpc-go, grpc-java and
    /// C-core.
    const MAX_RECEIVE: usize = 4 * 1024 * 1024;

    /// The default limit of sent messages, in bytes: the maximum of the frame format.
    const MAX_SEND: usize = u32::MAX as usize;

    /// The default time for a request to arrive: 4 MiB at 280 kbit/s.
    const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

    /// Options without any setting.
    pub const fn new() -> Self {
        Self {
            max_receive_message_size: None,
            max_send_message_size: None,
            compression: None,
            accepted: None,
            run_to_completion: None,
            spawn: None,
            request_timeout: None,
            max_duration: None,
            idle_timeout: None,
        }
    }

    /// Limits received messages to this many bytes, before and after decompression. Default: 4 MiB.
    /// A longer message ends its call with RESOURCE_EXHAUSTED before it is read.
    #[must_use]
    pub const fn max_receive_message_size(mut self, bytes: usize) -> Self {
        self.max_receive_message_size = Some(bytes);
        self
    }

    /// Limits sent messages to this many bytes before compression. Default: 4 GiB, the maximum of
    /// the frame format. A longer message ends its call with RESOURCE_EXHAUSTED.
    #[must_use]
    pub const fn max_send_message_size(mut self, bytes: usize) -> Self {
        self.max_send_message_size = Some(bytes);
        self
    }

    /// Sets how responses are compressed. Default: [`Compression::mirror`].
    #[must_use]
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Sets the encodings that are accepted in requests. Uncompressed requests are always accepted.
    /// Default: every encoding that is compiled in.
    ///
    /// A call with another `grpc-encoding` ends with UNIMPLEMENTED before any message is read. The
    /// `grpc-accept-encoding` of each response contains only these encodings. With an empty list,
    /// no client can make the server decompress.
    #[must_use]
    pub fn accept_encodings(mut self, encodings: &[Encoding]) -> Self {
        self.accepted = Some(Encodings::of(encodings));
        self
    }

    /// Lets the handler run to completion although the client has gone or the deadline has passed.
    /// The handler runs as a separate task. The client and the interceptors do not wait for it, and
    /// its result is discarded once the call has ended.
    #[must_use]
    pub const fn run_to_completion(mut self, yes: bool) -> Self {
        self.run_to_completion = Some(yes);
        self
    }

    /// Runs the handler as a task of a multi-thread runtime, instead of inside its connection's
    /// future. Use it for handlers that compute for a millisecond or more. They would delay the
    /// other calls of their connection, and the other connections of their worker. With it, calls
    /// of one connection run on all cores in parallel.
    ///
    /// Interceptors still run inside the connection's future. When the call ends, for example at
    /// its deadline, the client and the interceptors get the outcome at once. The handler is
    /// dropped where it next awaits.
    ///
    /// Do not use it for a handler that responds within microseconds: the task costs more than the
    /// response. A handler that blocks, on a file or a lock, belongs in
    /// `tokio::task::spawn_blocking`.
    ///
    /// The server starts this runtime if any method is set to spawn; it has one thread per core.
    /// With [`Server::serve_connection`](crate::Server::serve_connection), handlers run on the
    /// caller's runtime.
    #[must_use]
    pub const fn spawn(mut self, yes: bool) -> Self {
        self.spawn = Some(yes);
        self
    }

    /// Limits the time for a request to arrive, from its headers to the half-close. Default: 120 s.
    /// A longer request ends with DEADLINE_EXCEEDED, also if its client sets a later deadline or
    /// none. The limit holds for methods without client streaming. `Duration::MAX` is no limit.
    #[must_use]
    pub const fn request_timeout(mut self, time: Duration) -> Self {
        self.request_timeout = Some(time);
        self
    }

    /// Limits the duration of a call, also if its client sets a later deadline or none. Default: no
    /// limit. A longer call ends with DEADLINE_EXCEEDED. Handlers get the limit as the call's
    /// deadline. `Duration::MAX` is no limit.
    #[must_use]
    pub const fn max_duration(mut self, time: Duration) -> Self {
        self.max_duration = Some(time);
        self
    }

    /// Limits how long a client may be silent while the handler waits for it. The client has to
    /// send a message or to read; a message that has arrived in part does not count. A call over
    /// the limit ends with DEADLINE_EXCEEDED. The limit holds for methods with client streaming.
    /// Default: no limit. `Duration::MAX` is no limit.
    #[must_use]
    pub const fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = Some(time);
        self
    }

    /// Returns these options, with unset ones taken from `wider`.
    pub(crate) fn or(self, wider: &Self) -> Self {
        Self {
            max_receive_message_size: self
                .max_receive_message_size
                .or(wider.max_receive_message_size),
            max_send_message_size: self.max_send_message_size.or(wider.max_send_message_size),
            compression: self.compression.or(wider.compression),
            accepted: self.accepted.or(wider.accepted),
            run_to_completion: self.run_to_completion.or(wider.run_to_completion),
            spawn: self.spawn.or(wider.spawn),
            request_timeout: self.request_timeout.or(wider.request_timeout),
            max_duration: self.max_duration.or(wider.max_duration),
            idle_timeout: self.idle_timeout.or(wider.idle_timeout),
        }
    }

    pub(crate) fn accepted(&self) -> Encodings {
        self.accepted.unwrap_or(Encodings::ALL)
    }

    pub(crate) fn runs_to_completion(&self) -> bool {
        self.run_to_completion.unwrap_or(false)
    }

    pub(crate) fn spawns(&self) -> bool {
        self.spawn.unwrap_or(false)
    }

    pub(crate) fn receive_limit(&self) -> usize {
        self.max_receive_message_size.unwrap_or(Self::MAX_RECEIVE)
    }

    pub(crate) fn send_limit(&self) -> usize {
        self.max_send_message_size.unwrap_or(Self::MAX_SEND)
    }

    pub(crate) fn request_limit(&self) -> Option<Duration> {
        Some(self.request_timeout.unwrap_or(Self::REQUEST_TIMEOUT))
    }

    pub(crate) fn duration_limit(&self) -> Option<Duration> {
        self.max_duration
    }

    pub(crate) fn idle_limit(&self) -> Option<Duration> {
        self.idle_timeout
    }
}

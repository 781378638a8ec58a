use std::time::Duration;

use super::compression::{Compression, Encoding, Encodings};

/// Settings of calls: for a whole server ([`Server`](crate::Server)'s own methods), a service, or
/// a method ([`Router::configure`](crate::Router::configure)). What a method does not set is taken
/// from its service, then from the server.
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
    /// The longest message that is received, unless set: the default of grpc-go, grpc-java and
    /// C-core.
    const MAX_RECEIVE: usize = 4 * 1024 * 1024;

    /// The longest message that is sent, unless set: what the frame format can say.
    const MAX_SEND: usize = u32::MAX as usize;

    /// How long a request may take to arrive, unless set: 4 MiB at 280 kbit/s.
    const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

    /// Nothing set.
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

    /// The longest message that is received, in bytes, also after decompression; a longer one ends
    /// its call with RESOURCE_EXHAUSTED before it is read.
    #[must_use]
    pub const fn max_receive_message_size(mut self, bytes: usize) -> Self {
        self.max_receive_message_size = Some(bytes);
        self
    }

    /// The longest message that is sent, in bytes before compression; a longer one ends its call
    /// with RESOURCE_EXHAUSTED.
    #[must_use]
    pub const fn max_send_message_size(mut self, bytes: usize) -> Self {
        self.max_send_message_size = Some(bytes);
        self
    }

    /// How responses are compressed.
    #[must_use]
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// The encodings in which requests are accepted, besides plain ones: all that are compiled in,
    /// unless set. A call that names another in `grpc-encoding` ends with UNIMPLEMENTED, before any
    /// message is read, and `grpc-accept-encoding` of each response names these alone. Without any
    /// encoding no client can make the server decompress.
    #[must_use]
    pub fn accept_encodings(mut self, encodings: &[Encoding]) -> Self {
        self.accepted = Some(Encodings::of(encodings));
        self
    }

    /// Lets the handler run to its end although the client has gone or the deadline has passed:
    /// it runs as a task of its own, and only its answer is dropped. Interceptors and the client
    /// are not held up by it.
    #[must_use]
    pub const fn run_to_completion(mut self, yes: bool) -> Self {
        self.run_to_completion = Some(yes);
        self
    }

    /// Runs the handler as a task of a multi-thread runtime, rather than inside its connection's
    /// future: for handlers that compute for long (a millisecond is long), which would hold up the
    /// other calls of their connection, and other connections of its worker. Calls of one
    /// connection then run on all cores at once.
    ///
    /// Otherwise nothing is different. Interceptors stay where they are. When the call ends, by its
    /// deadline say, the client and the interceptors see it at once, and the handler is dropped
    /// where it next awaits.
    ///
    /// A handler that answers within microseconds is better off without: a task costs more than
    /// such an answer. A handler that blocks, on a file or a lock, belongs in
    /// `tokio::task::spawn_blocking`.
    ///
    /// The runtime is one of the server's own, with a thread per core, which is started if anything
    /// is set to be spawned; under [`Server::serve_connection`](crate::Server::serve_connection) it
    /// is the caller's.
    #[must_use]
    pub const fn spawn(mut self, yes: bool) -> Self {
        self.spawn = Some(yes);
        self
    }

    /// How long a request may take to arrive, from its head to the half-close; one that takes longer
    /// ends with DEADLINE_EXCEEDED. It holds for methods whose clients do not stream, also where a
    /// client sets a later deadline or none. `Duration::MAX` is no limit.
    #[must_use]
    pub const fn request_timeout(mut self, time: Duration) -> Self {
        self.request_timeout = Some(time);
        self
    }

    /// How long a call may last, whatever its client asks for; a longer one ends with
    /// DEADLINE_EXCEEDED. Handlers see it as the call's deadline. `Duration::MAX` is no limit.
    #[must_use]
    pub const fn max_duration(mut self, time: Duration) -> Self {
        self.max_duration = Some(time);
        self
    }

    /// How long the client of a streaming request may send no message, nor read one that it is sent,
    /// while the handler waits for it; then the call ends with DEADLINE_EXCEEDED. A message that
    /// arrives in part does not count. There is no limit unless it is set, and `Duration::MAX` is none.
    #[must_use]
    pub const fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = Some(time);
        self
    }

    /// These options, and what they leave open from `wider`.
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

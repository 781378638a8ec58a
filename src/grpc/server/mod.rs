//! The server: it accepts connections and gives each a future that serves all its calls.
//!
//! ```text
//! Server::serve  --accept-->  Worker (a thread each, or the caller's runtime)
//!                               `-- connection: TLS if it is set, then one future, in turns
//!                                     |-- h2: frames, HPACK, flow control
//!                                     |-- socket: writes gathered until the turns are over
//!                                     `-- rpc: one per stream; moves bytes, polls the handler
//! ```

mod accept;
mod connection;
mod drain;
mod policy;
mod scheduling;
mod settings;
mod signals;
mod stats;

use std::fmt;
use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout_at;

use self::accept::listener::{Accepted, Listener};
pub use self::accept::listeners::Listeners;
#[cfg(feature = "tls")]
pub use self::accept::tls::{ClientCertificate, SharedTls, Tls};
use self::connection::context::ServerContext;
use self::drain::DrainTrigger;
use self::policy::budget::Budget;
use self::policy::enforcement::PingPolicy;
use self::scheduling::handler_runtime::HandlerRuntime;
use self::scheduling::timer::later;
use self::scheduling::workers::{Job, Workers};
use self::settings::Settings;
pub use self::signals::exit_at_next_signal;
pub use self::signals::shutdown_signal;
pub use self::stats::ServerStats;
use super::call::{Peer, PeerAddr};
use super::compression::{Compression, Encoding};
use super::inflate_budget::InflateBudget;
use super::router::Router;

/// What a busy machine may add to the time in which connections end.
const SLACK: Duration = Duration::from_millis(500);

/// A gRPC server over HTTP/2, with limits that are on by default.
///
/// ```no_run
/// use std::time::Duration;
///
/// use balafon::{Router, Server, shutdown_signal};
/// use tokio::net::TcpListener;
///
/// # async fn run(router: Router) -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:9090").await?;
/// let server = Server::new().drain_timeout(Duration::from_secs(20));
/// server.serve(listener, router, shutdown_signal()).await
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Server {
    settings: Settings,
    workers: usize,
    stats: Arc<ServerStats>,
    #[cfg(feature = "tls")]
    tls: Option<SharedTls>,
}

impl Server {
    /// A server with the default settings.
    pub fn new() -> Self {
        Self::default()
    }

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

    /// The longest message that is received, in bytes; a longer one ends its call with
    /// RESOURCE_EXHAUSTED before it is read. Default: 4 MiB.
    #[must_use]
    pub fn max_receive_message_size(mut self, bytes: usize) -> Self {
        self.settings.calls = self.settings.calls.max_receive_message_size(bytes);
        self
    }

    /// The longest message that is sent, in bytes; a longer one ends its call with
    /// RESOURCE_EXHAUSTED. Default: what the frame format can say, 4 GiB.
    #[must_use]
    pub fn max_send_message_size(mut self, bytes: usize) -> Self {
        self.settings.calls = self.settings.calls.max_send_message_size(bytes);
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

    /// How long a request may take to arrive, unless its service or method says otherwise: see
    /// [`CallOptions::request_timeout`](crate::CallOptions::request_timeout). Default: 2 min.
    #[must_use]
    pub fn request_timeout(mut self, time: Duration) -> Self {
        self.settings.calls = self.settings.calls.request_timeout(time);
        self
    }

    /// How long a call may last, unless its service or method says otherwise: see
    /// [`CallOptions::max_duration`](crate::CallOptions::max_duration). Default: no limit.
    #[must_use]
    pub fn max_call_duration(mut self, time: Duration) -> Self {
        self.settings.calls = self.settings.calls.max_duration(time);
        self
    }

    /// How long the client of a streaming request may be silent, unless its service or method says
    /// otherwise: see [`CallOptions::idle_timeout`](crate::CallOptions::idle_timeout). Default: no limit.
    #[must_use]
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.settings.calls = self.settings.calls.idle_timeout(time);
        self
    }

    /// Runs handlers as tasks of a multi-thread runtime, each, unless their service or method says
    /// otherwise; [`CallOptions::spawn`](crate::CallOptions::spawn) says when that is worth its price.
    /// Default: false.
    #[must_use]
    pub fn spawn_handlers(mut self, yes: bool) -> Self {
        self.settings.calls = self.settings.calls.spawn(yes);
        self
    }

    /// How responses are compressed. Default: as their requests are, from 1 KiB.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.calls = self.settings.calls.compression(compression);
        self
    }

    /// The encodings in which requests are accepted, besides plain ones; others end with
    /// UNIMPLEMENTED. [`CallOptions::accept_encodings`](crate::CallOptions::accept_encodings) has
    /// the same for a service or a method. Default: all that are compiled in.
    #[must_use]
    pub fn accept_encodings(mut self, encodings: &[Encoding]) -> Self {
        self.settings.calls = self.settings.calls.accept_encodings(encodings);
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
        self.settings.lifespan.idle = Some(idle);
        self
    }

    /// Closes connections of this age, give or take a tenth, so that clients spread over servers
    /// again. No more calls are accepted then, and those that are open have `grace` to end;
    /// `None` is for ever. Default: never.
    #[must_use]
    pub fn max_connection_age(mut self, age: Duration, grace: Option<Duration>) -> Self {
        self.settings.lifespan.age = Some(age);
        self.settings.lifespan.grace = grace;
        self
    }

    /// Pings a client that has been silent for `time`, and closes the connection if it stays
    /// silent for `timeout` after that: so that calls of a client whose machine is gone end.
    /// Default: 2 h and 20 s.
    #[must_use]
    pub fn keepalive(mut self, time: Duration, timeout: Duration) -> Self {
        self.settings.lifespan.keepalive_time = Some(time);
        self.settings.lifespan.keepalive_timeout = timeout;
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

    /// How long a connection goes on with its new calls, and again with those that wait, before
    /// other connections of its worker have their turn. A single poll of a call that takes longer,
    /// which nobody can interrupt, counts among the [slow polls](ServerStats::slow_polls).
    /// Default: 1 ms.
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

    /// What this server, and its clones, serve together: connections and bytes, for metrics. It
    /// goes on counting while they serve.
    pub fn stats(&self) -> Arc<ServerStats> {
        self.stats.clone()
    }

    /// Serves `router` on `address`, HOST:PORT or `unix:PATH` ([`Listeners::bind`]), until SIGINT or
    /// SIGTERM, then drains; for programs that do nothing else. A second signal ends the process at
    /// once, with the exit code 130. Blocks the thread and makes the runtimes by itself: one worker
    /// per core, unless [`workers`](Self::workers) says otherwise.
    ///
    /// # Errors
    /// If it cannot listen on the address, or start a thread or a runtime.
    pub fn run(mut self, address: impl fmt::Display, router: Router) -> io::Result<()> {
        if self.workers == 0 {
            self.workers = available_parallelism().map_or(1, NonZeroUsize::get);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = runtime.block_on(async {
            let mut listeners = Listeners::new();
            listeners.bind(&address.to_string()).await?;
            let first = shutdown_signal();
            let shutdown = async {
                first.await;
                exit_at_next_signal(|| ());
            };
            self.serve(listeners, router, shutdown).await
        });
        // Dropped, it would wait for every blocking task that a handler has started.
        runtime.shutdown_background();
        served
    }

    /// Serves `router` on `listeners`, such as a `TcpListener`, until `shutdown` completes, then drains: no more connections
    /// are accepted, clients are told by GOAWAY, calls may end within the drain timeout. With
    /// [`Health::lame_duck`](crate::services::health::Health::lame_duck) for a `shutdown`, load
    /// balancers learn of it first.
    ///
    /// # Errors
    /// If a worker's thread or runtime cannot be started. Failures of single connections, and of
    /// `accept`, are logged and end nothing.
    pub async fn serve(
        self,
        listeners: impl Into<Listeners>,
        router: Router,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let handler_runtime =
            router.spawns(&self.settings.calls).then(HandlerRuntime::start).transpose()?;
        let Settings { max_connections, drain_timeout, .. } = self.settings;
        let context = ServerContext {
            handler_runtime: handler_runtime.as_ref().and_then(HandlerRuntime::handle),
            ..self.context(Arc::new(router))
        };
        let trigger = DrainTrigger::new();
        let mut listener = Listener::new(listeners.into(), max_connections, self.stats.clone());
        let workers = Workers::start(self.workers, context)?;
        let accepting = async {
            loop {
                let Accepted { stream, peer, proxied, permit } = listener.accept().await;
                workers.serve(Job { stream, peer, proxied, permit, drain: trigger.watch() });
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = accepting => {}
        }
        drop(listener);
        trigger.start(drain_timeout);
        // Connections end by themselves in this time; handlers that block, or are tasks of their own,
        // may not.
        let time = drain_timeout.saturating_add(connection::turns::LAST_WORDS + SLACK);
        if timeout_at(later(time), trigger.finished()).await.is_err() {
            tracing::warn!("drain timeout: handlers that block or run as tasks are not done");
        }
        workers.join().await;
        Ok(())
    }

    /// Serves one connection that is already there, such as a pipe in a test, until it closes. It
    /// does not count among [`max_connections`](Self::max_connections), and its calls have all of
    /// the [`server_buffer_limit`](Self::server_buffer_limit) to themselves.
    pub async fn serve_connection<T>(&self, io: T, router: Arc<Router>)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let context = self.context(router).connection(Peer::new(PeerAddr::Memory));
        let trigger = DrainTrigger::new();
        connection::turns::serve(io, context, trigger.watch()).await;
    }

    fn context(&self, router: Arc<Router>) -> ServerContext {
        ServerContext {
            router,
            settings: Arc::new(self.settings.clone()),
            budget: Arc::new(Budget::new(self.settings.server_buffer_limit)),
            inflate_budget: InflateBudget::of_server(),
            stats: self.stats.clone(),
            handler_runtime: None,
            polled: None,
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
            #[cfg(feature = "tls")]
            handshakes: accept::handshakes::Handshakes::new(
                self.settings.handshakes_per_minute,
                available_parallelism().map_or(1, NonZeroUsize::get),
            ),
        }
    }
}

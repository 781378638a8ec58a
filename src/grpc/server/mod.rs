//! The server. It accepts connections and serves all calls of a connection in one future.
//!
//! ```text
//!  Server::serve
//!    |  accept::listener::Listener         accepts a socket, enforces max_connections
//!    v
//!  scheduling::workers::Workers            a thread with few connections, or the caller's runtime
//!    |
//!    v
//!  connection::serve::serve                PROXY header, TLS, HTTP/2 handshake, drain
//!    |
//!    v
//!  connection::turns::Connection           one future per connection; polls transport and calls
//!    |  |-- transport::Transport           HTTP/2, by the h2 crate; reads and writes the socket
//!    |  `-- policy::enforcement            judges the frames, closes abusive connections
//!    v
//!  connection::server_call::ServerCall     one per stream; moves bytes, polls the handler
//! ```
//!
//! This folder holds everything between a listening socket and a call's handler. The settings are
//! in `builder` and `settings`, shutdown is in `drain` and `signals`, counters are in `stats`.

mod accept;
mod builder;
mod connection;
mod drain;
mod policy;
mod scheduling;
mod settings;
mod signals;
mod stats;
mod transport;

use std::fmt;
use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::time::timeout_at;

use self::accept::listener::{Accepted, Listener};
pub use self::accept::listeners::Listeners;
#[cfg(feature = "tls")]
pub use self::accept::tls::{ClientCertificate, SharedTls, Tls};
use self::connection::context::ServerContext;
use self::drain::DrainTrigger;
use self::policy::budget::Budget;
use self::policy::offenders::Offenders;
use self::scheduling::handler_runtime::HandlerRuntime;
use self::scheduling::timer::later;
use self::scheduling::workers::{Job, Workers};
use self::settings::Settings;
pub use self::settings::{Http2, UnknownHttp2};
pub use self::signals::exit_at_next_signal;
pub use self::signals::shutdown_signal;
pub use self::stats::ServerStats;
use self::transport::closing::LAST_FRAMES;
use super::call::{Peer, PeerAddr};
use super::inflate_budget::InflateBudget;
use super::router::Router;

/// Extra time for connections to end after the drain timeout, for busy machines.
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

    /// Returns the counters of connections and bytes, for metrics. Clones of a server share them.
    /// They keep counting while the server runs.
    pub fn stats(&self) -> Arc<ServerStats> {
        self.stats.clone()
    }

    /// Serves `router` on `address` until SIGINT or SIGTERM, then drains. The address is HOST:PORT
    /// or `unix:PATH`, as in [`Listeners::bind`]. A second signal ends the process at once, with
    /// exit code 130.
    ///
    /// This blocks the thread and creates its own runtimes. It starts one worker per core, unless
    /// [`workers`](Self::workers) sets another number.
    ///
    /// # Errors
    /// If the address cannot be bound, or a thread or runtime cannot be started. Inside an
    /// asynchronous runtime it always fails: await [`serve`](Self::serve) there.
    pub fn run(mut self, address: impl fmt::Display, router: Router) -> io::Result<()> {
        if Handle::try_current().is_ok() {
            return Err(io::Error::other(
                "Server::run starts its own runtime and blocks its thread; inside a runtime (such as \
                 #[tokio::main]), bind Listeners and await Server::serve",
            ));
        }
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
        // Dropping the runtime would wait for blocking tasks that handlers have started.
        runtime.shutdown_background();
        served
    }

    /// Serves `router` on `listeners`, such as a `TcpListener`, until `shutdown` completes, then
    /// drains. During the drain no connections are accepted, and clients get a GOAWAY frame. Open
    /// calls may end within the drain timeout.
    ///
    /// Pass [`Health::lame_duck`](crate::services::health::Health::lame_duck) as `shutdown` so that
    /// load balancers see the shutdown before it starts.
    ///
    /// # Errors
    /// If a worker's thread or runtime cannot be started. Failures of `accept` and of single
    /// connections are logged and do not stop the server.
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
                let job = Job { stream, peer, proxied, permit, drain: trigger.watch() };
                workers.serve(job).await;
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = accepting => {}
        }
        drop(listener);
        trigger.start(drain_timeout);
        // Connections end within this time. Handlers that block or run as tasks may take longer.
        let time = drain_timeout.saturating_add(LAST_FRAMES + SLACK);
        if timeout_at(later(time), trigger.finished()).await.is_err() {
            tracing::warn!(
                "drain timeout: handlers that block their thread or run as tasks have not ended"
            );
        }
        workers.join().await;
        Ok(())
    }

    /// Serves one open connection, such as a pipe in a test, until it closes.
    /// [`max_connections`](Self::max_connections) does not count it. Its calls have a
    /// [`server_buffer_limit`](Self::server_buffer_limit) of their own.
    pub async fn serve_connection<T>(&self, io: T, router: Arc<Router>)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let context = self.context(router).connection(Peer::new(PeerAddr::Memory));
        let trigger = DrainTrigger::new();
        connection::serve::serve(io, context, trigger.watch()).await;
    }

    fn context(&self, router: Arc<Router>) -> ServerContext {
        ServerContext {
            router,
            settings: Arc::new(self.settings.clone()),
            budget: Arc::new(Budget::new(self.settings.server_buffer_limit)),
            inflate_budget: InflateBudget::of_server(),
            offenders: Arc::new(Offenders::new()),
            stats: self.stats.clone(),
            handler_runtime: None,
            last_polled: None,
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
            #[cfg(feature = "tls")]
            handshakes: accept::handshakes::HandshakeLimits::new(
                self.settings.handshakes_per_minute,
                available_parallelism().map_or(1, NonZeroUsize::get),
            ),
        }
    }
}

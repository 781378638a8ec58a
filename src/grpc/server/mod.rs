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
mod builder;
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
pub use self::signals::exit_at_next_signal;
pub use self::signals::shutdown_signal;
pub use self::stats::ServerStats;
use super::call::{Peer, PeerAddr};
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
    /// If it cannot listen on the address, or start a thread or a runtime. Inside of an asynchronous runtime it
    /// returns an error: there, await [`serve`](Self::serve).
    pub fn run(mut self, address: impl fmt::Display, router: Router) -> io::Result<()> {
        if Handle::try_current().is_ok() {
            return Err(io::Error::other(
                "Server::run makes a runtime of its own and blocks its thread; inside of a runtime (such as \
                 #[tokio::main]) bind Listeners and await Server::serve",
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
        let time = drain_timeout.saturating_add(connection::serve::LAST_FRAMES + SLACK);
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

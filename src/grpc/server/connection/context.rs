use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::grpc::call::Peer;
use crate::grpc::inflate_budget::InflateBudget;
use crate::grpc::method::Method;
use crate::grpc::options::CallOptions;
use crate::grpc::router::Router;
#[cfg(feature = "tls")]
use crate::grpc::server::accept::handshakes::HandshakeLimits;
#[cfg(feature = "tls")]
use crate::grpc::server::accept::tls::SharedTls;
use crate::grpc::server::connection::send_buffer::SendBufferLimit;
use crate::grpc::server::drain::Drain;
use crate::grpc::server::policy::budget::{Budget, Budgets};
use crate::grpc::server::policy::offenders::Offenders;
use crate::grpc::server::policy::shared_state::SharedState;
use crate::grpc::server::scheduling::polled_method::LastPolledMethod;
use crate::grpc::server::settings::Settings;
use crate::grpc::server::stats::{Meter, ServerStats};
use crate::grpc::spawned::SpawnedHandler;

/// What the connections of a server have in common.
#[derive(Clone)]
pub(crate) struct ServerContext {
    pub(crate) router: Arc<Router>,
    pub(crate) settings: Arc<Settings>,
    /// Of all calls.
    pub(crate) budget: Arc<Budget>,
    /// Of all compressed messages.
    pub(crate) inflate_budget: Arc<InflateBudget>,
    pub(crate) offenders: Arc<Offenders>,
    pub(crate) stats: Arc<ServerStats>,
    /// Where handlers run that are spawned; `None` is the runtime of the connection.
    pub(crate) handler_runtime: Option<Handle>,
    /// Of the worker; `None` on the caller's runtime, which nobody waits for.
    pub(crate) last_polled: Option<Arc<LastPolledMethod>>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<SharedTls>,
    #[cfg(feature = "tls")]
    pub(crate) handshakes: HandshakeLimits,
}

/// What the calls of one connection have in common. It is made by the worker that serves it, so
/// that what calls count in it shares no cache line with that of other workers.
pub(crate) struct ConnectionContext {
    pub(crate) router: Arc<Router>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) peer: Arc<Peer>,
    /// Whether the peer is a proxy, whose header says for whom it is.
    pub(crate) proxied: bool,
    pub(crate) shared_state: Arc<SharedState>,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) inflate_budget: Arc<InflateBudget>,
    pub(crate) offenders: Arc<Offenders>,
    pub(crate) send_buffer: SendBufferLimit,
    pub(crate) meter: Arc<Meter>,
    /// Held by what the drain should wait for. Unset until the connection is served.
    pub(crate) drain: Option<Drain>,
    handler_runtime: Option<Handle>,
    last_polled: Option<Arc<LastPolledMethod>>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<SharedTls>,
    #[cfg(feature = "tls")]
    pub(crate) handshakes: HandshakeLimits,
}

impl ServerContext {
    /// The same for a worker with a thread of its own, which says here what it polls.
    pub(crate) fn for_worker(self, last_polled: Arc<LastPolledMethod>) -> Self {
        Self {
            last_polled: Some(last_polled),
            #[cfg(feature = "tls")]
            handshakes: self.handshakes.for_thread(),
            ..self
        }
    }

    /// For a new connection.
    pub(crate) fn connection(&self, peer: Peer) -> ConnectionContext {
        let Self {
            router,
            settings,
            budget,
            inflate_budget,
            offenders,
            stats,
            handler_runtime,
            last_polled,
            ..
        } = self;
        ConnectionContext {
            router: router.clone(),
            settings: settings.clone(),
            peer: Arc::new(peer),
            proxied: false,
            shared_state: Arc::default(),
            budgets: Budgets::new(settings.connection_buffer_limit, budget),
            inflate_budget: InflateBudget::of_connection(inflate_budget),
            offenders: offenders.clone(),
            send_buffer: SendBufferLimit::default(),
            meter: stats.open(),
            drain: None,
            handler_runtime: handler_runtime.clone(),
            last_polled: last_polled.clone(),
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
            #[cfg(feature = "tls")]
            handshakes: self.handshakes.clone(),
        }
    }
}

impl ConnectionContext {
    /// Whether ALPN has said what is spoken. Such a client would wait for an acknowledgement of its
    /// part of the handshake before it says anything else (RFC 896), and the kernel takes its time for
    /// that: there the server speaks first.
    pub(crate) fn is_over_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }

    /// A call of this method is about to be polled.
    pub(crate) fn set_last_polled(&self, method: &'static Method) {
        if let Some(last_polled) = &self.last_polled {
            last_polled.set(method);
        }
    }

    /// Counts the poll of a call that took this time, if it was slow.
    pub(crate) fn count_poll(&self, method: &'static Method, time: Duration) {
        if time > self.settings.time_slice {
            self.meter.slow_poll(method, time);
        }
    }

    /// How the handler of a call with these options runs, if not in the connection's future.
    pub(crate) fn spawned(self: &Arc<Self>, options: &CallOptions) -> Option<SpawnedHandler> {
        let (spawn, to_completion) = (options.spawns(), options.runs_to_completion());
        (spawn || to_completion).then(|| SpawnedHandler {
            runtime: self.handler_runtime.clone().filter(|_| spawn),
            to_completion,
            hold: self.clone(),
        })
    }
}

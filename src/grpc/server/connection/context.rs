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
use crate::grpc::server::drain::Drain;
use crate::grpc::server::policy::budget::{Budget, Budgets};
use crate::grpc::server::policy::enforcement::EnforcementPolicy;
use crate::grpc::server::policy::offenders::Offenders;
use crate::grpc::server::policy::shared_state::SharedState;
use crate::grpc::server::scheduling::polled_method::LastPolledMethod;
use crate::grpc::server::settings::Settings;
use crate::grpc::server::stats::{Meter, ServerStats};
use crate::grpc::spawned::SpawnedHandler;

/// State that all connections of a server share.
#[derive(Clone)]
pub(crate) struct ServerContext {
    pub(crate) router: Arc<Router>,
    pub(crate) settings: Arc<Settings>,
    /// Memory limit of all calls.
    pub(crate) budget: Arc<Budget>,
    /// Limits the decompression work of all calls.
    pub(crate) inflate_budget: Arc<InflateBudget>,
    pub(crate) offenders: Arc<Offenders>,
    pub(crate) stats: Arc<ServerStats>,
    /// The runtime of spawned handlers. `None` is the connection's runtime.
    pub(crate) handler_runtime: Option<Handle>,
    /// The method that this worker polled last. `None` on the caller's runtime, because the server
    /// does not join its threads.
    pub(crate) last_polled: Option<Arc<LastPolledMethod>>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<SharedTls>,
    #[cfg(feature = "tls")]
    pub(crate) handshakes: HandshakeLimits,
}

/// State that the calls of one connection share. The worker of the connection creates it, so its
/// counters share no cache line with other workers.
pub(crate) struct ConnectionContext {
    pub(crate) router: Arc<Router>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) peer: Arc<Peer>,
    /// Whether the peer is a proxy, which sends a PROXY header with the client's address.
    pub(crate) proxied: bool,
    pub(crate) shared_state: Arc<SharedState>,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) inflate_budget: Arc<InflateBudget>,
    pub(crate) offenders: Arc<Offenders>,
    pub(crate) meter: Arc<Meter>,
    /// The drain waits until this is dropped. `None` until the connection is served.
    pub(crate) drain: Option<Drain>,
    handler_runtime: Option<Handle>,
    last_polled: Option<Arc<LastPolledMethod>>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<SharedTls>,
    #[cfg(feature = "tls")]
    pub(crate) handshakes: HandshakeLimits,
}

impl ServerContext {
    /// The context of a worker with its own thread. The worker records the method that it polls in
    /// `last_polled`.
    pub(crate) fn for_worker(self, last_polled: Arc<LastPolledMethod>) -> Self {
        Self {
            last_polled: Some(last_polled),
            #[cfg(feature = "tls")]
            handshakes: self.handshakes.for_thread(),
            ..self
        }
    }

    /// Creates the context of a new connection.
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
    /// Whether ALPN has negotiated HTTP/2, so that the server can send its SETTINGS first. The
    /// client would otherwise wait for the TCP acknowledgement of its TLS Finished before it sends
    /// anything (Nagle's algorithm, RFC 896). The kernel delays that acknowledgement.
    pub(crate) fn is_over_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }

    /// The enforcement policy of this connection, whose peer must be known.
    pub(crate) fn enforcement_policy(&self) -> EnforcementPolicy {
        let is_offender = self.offenders.contain(&self.peer);
        EnforcementPolicy::new(self.settings.pings, self.shared_state.clone(), is_offender)
    }

    /// Records the method of the call that is polled next.
    pub(crate) fn set_last_polled(&self, method: &'static Method) {
        if let Some(last_polled) = &self.last_polled {
            last_polled.set(method);
        }
    }

    /// Counts a poll of a call if it was slow.
    pub(crate) fn count_poll(&self, method: &'static Method, time: Duration) {
        if time > self.settings.time_slice {
            self.meter.slow_poll(method, time);
        }
    }

    /// How the handler of a call runs if it is spawned. `None` if it runs in the connection's
    /// future.
    pub(crate) fn spawned(self: &Arc<Self>, options: &CallOptions) -> Option<SpawnedHandler> {
        let (spawn, to_completion) = (options.spawns(), options.runs_to_completion());
        (spawn || to_completion).then(|| SpawnedHandler {
            runtime: self.handler_runtime.clone().filter(|_| spawn),
            to_completion,
            hold: self.clone(),
        })
    }
}

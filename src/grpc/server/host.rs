use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::budget::{Budget, Budgets};
use super::drain::Drain;
#[cfg(feature = "tls")]
use super::handshakes::Handshakes;
use super::outlet::Outlet;
use super::polled::Polled;
use super::rpc::Rpc;
use super::settings::Settings;
use super::stats::{Meter, ServerStats};
use super::tally::Tally;
#[cfg(feature = "tls")]
use super::tls::SharedTls;
use crate::grpc::apart::Apart;
use crate::grpc::call::Peer;
use crate::grpc::inflate_budget::InflateBudget;
use crate::grpc::method::Method;
use crate::grpc::options::CallOptions;
use crate::grpc::router::Router;

/// What the connections of a server have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) router: Arc<Router>,
    pub(super) settings: Arc<Settings>,
    /// Of all calls.
    pub(super) budget: Arc<Budget>,
    /// Of all compressed messages.
    pub(super) inflate_budget: Arc<InflateBudget>,
    pub(super) stats: Arc<ServerStats>,
    /// Where handlers run that are spawned; `None` is the runtime of the connection.
    pub(super) spawner: Option<Handle>,
    /// Of the worker; `None` on the caller's runtime, which nobody waits for.
    pub(super) polled: Option<Arc<Polled>>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<SharedTls>,
    #[cfg(feature = "tls")]
    pub(super) handshakes: Handshakes,
}

/// What the calls of one connection have in common. It is made by the worker that serves it, so
/// that what calls count in it shares no cache line with that of other workers.
pub(super) struct Host {
    pub(super) router: Arc<Router>,
    pub(super) settings: Arc<Settings>,
    pub(super) peer: Arc<Peer>,
    /// Whether the peer is a proxy, whose header says for whom it is.
    pub(super) proxied: bool,
    pub(super) tally: Arc<Tally>,
    pub(super) budgets: Arc<Budgets>,
    pub(super) inflate_budget: Arc<InflateBudget>,
    pub(super) outlet: Outlet,
    pub(super) meter: Arc<Meter>,
    /// Held by what the drain should wait for. Unset until the connection is served.
    pub(super) drain: Option<Drain>,
    spawner: Option<Handle>,
    polled: Option<Arc<Polled>>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<SharedTls>,
    #[cfg(feature = "tls")]
    pub(super) handshakes: Handshakes,
}

impl Common {
    /// The same for a worker of its own: its calls touch no counts of references that those of
    /// other workers do.
    pub(super) fn replica(&self) -> Self {
        let router = Arc::new(self.router.replica());
        let settings = Arc::new(Settings::clone(&self.settings));
        Self {
            router,
            settings,
            #[cfg(feature = "tls")]
            handshakes: self.handshakes.for_a_thread(),
            ..self.clone()
        }
    }

    /// For a new connection.
    pub(super) fn host(&self, peer: Peer) -> Host {
        let Self { router, settings, budget, inflate_budget, stats, spawner, polled, .. } = self;
        Host {
            router: router.clone(),
            settings: settings.clone(),
            peer: Arc::new(peer),
            proxied: false,
            tally: Arc::default(),
            budgets: Budgets::new(settings.connection_buffer_limit, budget),
            inflate_budget: InflateBudget::of_connection(inflate_budget),
            outlet: Outlet::default(),
            meter: stats.open(),
            drain: None,
            spawner: spawner.clone(),
            polled: polled.clone(),
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
            #[cfg(feature = "tls")]
            handshakes: self.handshakes.clone(),
        }
    }
}

impl Host {
    /// Whether ALPN has said what is spoken. Such a client would wait for an acknowledgement of its
    /// part of the handshake before it says anything else (RFC 896), and the kernel takes its time for
    /// that: there the server speaks first.
    pub(super) fn is_over_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }

    /// A call of this method is about to be polled.
    pub(super) fn polls(&self, method: &'static Method) {
        if let Some(polled) = &self.polled {
            polled.set(method);
        }
    }

    /// Counts the poll of a call that took this time, if it was slow.
    pub(super) fn took(&self, rpc: &Rpc, time: Duration) {
        if time > self.settings.time_slice {
            self.meter.slow_poll(rpc.method(), time);
        }
    }

    /// How the handler of a call with these options runs, if not in the connection's future.
    pub(super) fn apart(self: &Arc<Self>, options: &CallOptions) -> Option<Apart> {
        let (spawn, to_completion) = (options.spawns(), options.runs_to_completion());
        (spawn || to_completion).then(|| Apart {
            runtime: self.spawner.clone().filter(|_| spawn),
            to_completion,
            hold: self.clone(),
        })
    }
}

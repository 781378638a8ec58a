use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::grpc::server::scheduling::timer::later;

/// The server's side of a drain. It starts once, for all connections.
#[derive(Debug)]
pub(super) struct DrainTrigger(watch::Sender<Option<Instant>>);

/// A connection's side of a drain. It reports the start of the drain and its deadline. The server
/// waits until all of these are dropped.
#[derive(Debug, Clone)]
pub(super) struct Drain(watch::Receiver<Option<Instant>>);

impl DrainTrigger {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    pub(super) fn watch(&self) -> Drain {
        Drain(self.0.subscribe())
    }

    /// Starts the drain. Open calls have `timeout` to end.
    pub(super) fn start(&self, timeout: Duration) {
        self.0.send_replace(Some(later(timeout)));
    }

    /// Waits until every connection has dropped its [`Drain`].
    pub(super) async fn finished(&self) {
        self.0.closed().await;
    }
}

impl Drain {
    /// Waits for the drain and returns its deadline. Cancel safe.
    pub(super) async fn started(&mut self) -> Instant {
        let deadline = self.0.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
        match deadline {
            Some(deadline) => deadline,
            // The trigger was dropped, so the drain can no longer start.
            None => pending().await,
        }
    }
}

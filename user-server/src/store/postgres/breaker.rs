//! The circuit breaker: whether the database is available.
//!
//! ```text
//!                         the probe fails
//!   available ────────────────────────────────────────────────────> unavailable: calls fail immediately,
//!    |  ^                                                             |   and so do waiting calls
//!    |  `────────────────── the probe succeeds ───────────────────────'
//!    v
//!   read-only: calls continue, and health is NOT_SERVING
//! ```

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::StoreError;
use super::connection::Connection;
use super::connector::Connector;

/// The interval between probes.
const INTERVAL: Duration = Duration::from_millis(500);

/// The time limit of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The time limit of a statement without a deadline, and of a transaction of creations. It is the time limit for a free
/// connection (5 s) plus that of a statement (10 s). It only matters for a single connection that hangs, because
/// PostgreSQL itself ends statements earlier.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// The result of the last probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Available,
    ReadOnly,
    Unavailable,
}

/// Fails calls while the database is unavailable.
pub(super) struct Breaker {
    state: watch::Sender<State>,
    /// The availability for health.
    available: watch::Sender<bool>,
    /// Triggers a probe.
    suspected: Notify,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self {
            state: watch::Sender::new(State::Available),
            available: watch::Sender::new(true),
            suspected: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Sets the state, and logs a change.
    fn set(&self, state: State, why: &str) {
        if self.state.send_replace(state) == state {
            return;
        }
        match state {
            State::Available => tracing::info!("the database is available again"),
            State::ReadOnly => tracing::warn!(
                "the database is read-only: users are read, and health is NOT_SERVING"
            ),
            State::Unavailable => tracing::warn!(error = why, "the database is unavailable"),
        }
        self.available.send_replace(state == State::Available);
    }

    /// Triggers a probe, because a call has lost its connection. Perhaps only that connection is lost.
    pub(super) fn suspect(&self) {
        self.suspected.notify_one();
    }

    /// The result of `work`.
    ///
    /// # Errors
    /// Those of `work`. Unavailable if the database is or becomes unavailable, or after the time limit.
    pub(super) async fn guard<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut state = self.state.subscribe();
        tokio::select! {
            biased;
            // The sender is a field of `self`, so the wait cannot fail.
            _ = state.wait_for(|state| *state == State::Unavailable) => {
                Err(StoreError::unavailable("the database is unavailable"))
            }
            outcome = timeout(TIME_LIMIT, work) => outcome.unwrap_or_else(|_| {
                self.suspect();
                Err(StoreError::unavailable("the database did not answer within 15 s"))
            }),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.available.subscribe()
    }
}

/// Probes the database until the task is dropped.
pub(super) async fn probe(connector: Arc<Connector>, breaker: Arc<Breaker>) {
    let mut known = None;
    loop {
        let found = check(&mut known, &connector, &breaker).await;
        connector.set_can_write(matches!(found, Ok(true)));
        match found {
            Ok(true) => breaker.set(State::Available, ""),
            Ok(false) => breaker.set(State::ReadOnly, ""),
            Err(error) => breaker.set(State::Unavailable, &error.to_string()),
        }
        // Earlier if a call has lost its connection.
        let _ = timeout(INTERVAL, breaker.suspected.notified()).await;
    }
}

/// Whether the database is writable. The check uses the `known` connection if that still works. There is none after a
/// failure.
async fn check(
    known: &mut Option<Connection>,
    connector: &Connector,
    breaker: &Breaker,
) -> Result<bool, StoreError> {
    const TIMEOUT: &str = "it did not answer within 1 s";
    if let Some(connection) = known.take() {
        match timeout(PROBE_TIMEOUT, connection.is_writable()).await {
            // Another host may have taken over.
            Ok(Ok(false)) if connector.has_several_hosts() => {}
            Ok(Ok(can_write)) => {
                *known = Some(connection);
                return Ok(can_write);
            }
            // Perhaps an administrator has ended only this connection.
            Ok(Err(_)) => {}
            // Other connections to the same host would not answer either.
            Err(_) => {
                breaker.set(State::Unavailable, TIMEOUT);
                connector.renew();
            }
        }
    }
    let mut connecting = pin!(connector.connect_to_any());
    let connected = match timeout(PROBE_TIMEOUT, &mut connecting).await {
        Ok(connected) => connected,
        // Calls fail before all hosts were tried.
        Err(_) => {
            breaker.set(State::Unavailable, TIMEOUT);
            connecting.await
        }
    };
    let connection = connected?;
    let can_write = connection.can_write();
    *known = Some(connection);
    Ok(can_write)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn breaker_ends_calls_on_a_hanging_connection() {
        let (breaker, started) = (Breaker::new(), Instant::now());
        let outcome = breaker.guard(pending::<Result<(), _>>()).await;
        assert!(outcome.unwrap_err().is_unavailable());
        assert_eq!(started.elapsed(), TIME_LIMIT);
    }
}

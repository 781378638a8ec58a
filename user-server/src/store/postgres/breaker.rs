//! Whether the database is there.
//!
//! ```text
//!                         the probe is not answered
//!   there ────────────────────────────────────────────────────────> away: calls fail at once,
//!    |  ^                                                             |   also those that wait
//!    |  `────────────────── the probe is answered ────────────────────'
//!    v
//!   read-only: calls go on, and health is NOT_SERVING
//! ```

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::StoreError;
use super::connection::Connection;
use super::connector::Connector;

/// How long an answer of the probe is taken for the truth.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long the probe waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest that a statement without a deadline, or a transaction of creations, waits: for a connection to be free (5 s), and for the
/// longest statement (10 s). That is for connections that hang alone; PostgreSQL itself is sooner.
const LONGEST: Duration = Duration::from_secs(15);

/// What the probe has found last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    There,
    ReadOnly,
    Away,
}

/// Lets calls through, or not.
pub(super) struct Breaker {
    state: watch::Sender<State>,
    /// What health is told.
    available: watch::Sender<bool>,
    /// Asks the probe to look at once.
    suspected: Notify,
}

impl Breaker {
    pub(super) fn new() -> Self {
        let (state, available) = (watch::Sender::new(State::There), watch::Sender::new(true));
        Self { state, available, suspected: Notify::new() }
    }

    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Logs what is new.
    fn set(&self, state: State, why: &str) {
        if self.state.send_replace(state) == state {
            return;
        }
        match state {
            State::There => tracing::info!("the database is back"),
            State::ReadOnly => tracing::warn!(
                "the database can only be read: users are read, and health is NOT_SERVING"
            ),
            State::Away => tracing::warn!(error = why, "the database is away"),
        }
        self.available.send_replace(state == State::There);
    }

    /// A call has lost its connection: it may be that connection alone.
    pub(super) fn suspect(&self) {
        self.suspected.notify_one();
    }

    /// What `work` gives, unless the database is away, or goes away meanwhile.
    ///
    /// # Errors
    /// Those of `work`; and unavailable, then or after the longest time.
    pub(super) async fn guard<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut state = self.state.subscribe();
        tokio::select! {
            biased;
            // The sender is here, so it is not gone.
            _ = state.wait_for(|state| *state == State::Away) => {
                Err(StoreError::unavailable("the database is away"))
            }
            outcome = timeout(LONGEST, work) => outcome.unwrap_or_else(|_| {
                self.suspect();
                Err(StoreError::unavailable("the database takes too long"))
            }),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.available.subscribe()
    }
}

/// Looks whether the database is there, for as long as it is let.
pub(super) async fn probe(connector: Arc<Connector>, breaker: Arc<Breaker>) {
    let mut known = None;
    loop {
        let found = look(&mut known, &connector, &breaker).await;
        connector.set_can_write(matches!(found, Ok(true)));
        match found {
            Ok(true) => breaker.set(State::There, ""),
            Ok(false) => breaker.set(State::ReadOnly, ""),
            Err(error) => breaker.set(State::Away, &error.to_string()),
        }
        // Sooner if a call has noticed something.
        let _ = timeout(INTERVAL, breaker.suspected.notified()).await;
    }
}

/// Whether it can be written, asked on the connection of before if that is still good. There is none when
/// this was dropped, or has failed.
async fn look(
    known: &mut Option<Connection>,
    connector: &Connector,
    breaker: &Breaker,
) -> Result<bool, StoreError> {
    const SILENT: &str = "it does not answer";
    if let Some(connection) = known.take() {
        match timeout(PATIENCE, connection.is_writable()).await {
            // Another host may have taken over.
            Ok(Ok(false)) if connector.has_choice() => {}
            Ok(Ok(can_write)) => {
                *known = Some(connection);
                return Ok(can_write);
            }
            // The connection may have been ended alone, by whoever looks after the database.
            Ok(Err(_)) => {}
            // Others to the same host would not answer either.
            Err(_) => {
                breaker.set(State::Away, SILENT);
                connector.renew();
            }
        }
    }
    let mut connecting = pin!(connector.connect_to_any());
    let connected = match timeout(PATIENCE, &mut connecting).await {
        Ok(connected) => connected,
        // Calls do not wait until all hosts were tried.
        Err(_) => {
            breaker.set(State::Away, SILENT);
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
    async fn a_connection_that_hangs_alone_holds_no_call_for_ever() {
        let (breaker, started) = (Breaker::new(), Instant::now());
        let outcome = breaker.guard(pending::<Result<(), _>>()).await;
        assert!(outcome.unwrap_err().is_unavailable());
        assert_eq!(started.elapsed(), LONGEST);
    }
}

//! Whether the database is there.
//!
//! ```text
//!               a call loses its connection, or the probe fails
//!   available ────────────────────────────────────────────────────> away: calls fail at once
//!       ^                                                             |
//!       `────────────────── the probe is answered ────────────────────'
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_postgres::{Client, Config};

use super::tls::Tls;
use super::{StoreError, error};

/// How long an answer of the probe is taken for the truth.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long the probe waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lets calls through, or not.
pub(super) struct Breaker {
    available: watch::Sender<bool>,
    /// Asks the probe to look at once.
    suspected: Notify,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { available: watch::Sender::new(true), suspected: Notify::new() }
    }

    /// # Errors
    /// Unavailable while the database is away.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match *self.available.borrow() {
            true => Ok(()),
            false => Err(away()),
        }
    }

    /// A call has lost its connection: it may be that connection alone.
    pub(super) fn suspect(&self) {
        self.suspected.notify_one();
    }

    /// When the database is away.
    pub(super) async fn opened(&self) {
        // The sender is here, so it is not gone.
        let _ = self.availability().wait_for(|available| !available).await;
    }

    pub(super) fn availability(&self) -> watch::Receiver<bool> {
        self.available.subscribe()
    }

    fn set(&self, outcome: Result<(), String>) {
        self.available.send_if_modified(|available| match (*available, outcome) {
            (true, Err(error)) => {
                tracing::warn!(%error, "the database is away");
                *available = false;
                true
            }
            (false, Ok(())) => {
                tracing::info!("the database is back");
                *available = true;
                true
            }
            _ => false,
        });
    }
}

pub(super) fn away() -> StoreError {
    StoreError::unavailable("the database is away")
}

/// Looks whether the database is there, for as long as it is let.
pub(super) async fn probe(config: Config, tls: Tls, breaker: Arc<Breaker>) {
    let mut client = None;
    loop {
        let outcome = match timeout(PATIENCE, ask(&mut client, &config, &tls)).await {
            Ok(outcome) => outcome.map_err(|error| error::text(&error)),
            Err(_) => Err("it does not answer".to_owned()),
        };
        if outcome.is_err() {
            client = None;
        }
        breaker.set(outcome);
        // Sooner if a call has noticed something.
        let _ = timeout(INTERVAL, breaker.suspected.notified()).await;
    }
}

/// One question, on the connection of before if there is one.
async fn ask(
    client: &mut Option<Client>,
    config: &Config,
    tls: &Tls,
) -> Result<(), tokio_postgres::Error> {
    let connected = match client.take() {
        Some(client) => client,
        None => {
            let (client, connection) = config.connect(tls.clone()).await?;
            // It ends with its client, and tells that what is wrong.
            tokio::spawn(connection);
            client
        }
    };
    connected.simple_query("SELECT 1").await?;
    *client = Some(connected);
    Ok(())
}

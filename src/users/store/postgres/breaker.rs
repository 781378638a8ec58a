//! Whether the database is there.
//!
//! ```text
//!                         the probe is not answered
//!   available ────────────────────────────────────────────────────> away: calls fail at once,
//!       ^                                                             |   also those that wait
//!       `────────────────── the probe is answered ────────────────────'
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_postgres::{Client, Config, Error};

use super::tls::Tls;
use super::{Availability, StoreError, error};

/// How long an answer of the probe is taken for the truth.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long the probe waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest that a call without a deadline waits: for a connection to be free (5 s), and for the
/// longest statement (10 s). That is for connections that hang alone; PostgreSQL itself is sooner.
const LONGEST: Duration = Duration::from_secs(15);

/// The least that shows that statements are answered.
const QUESTION: &str = "SELECT 1";

/// Lets calls through, or not.
pub(super) struct Breaker {
    availability: Availability,
    /// Asks the probe to look at once.
    suspected: Notify,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { availability: Availability::new(), suspected: Notify::new() }
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
        let mut available = self.watch();
        tokio::select! {
            biased;
            // The sender is here, so it is not gone.
            _ = available.wait_for(|available| !available) => {
                Err(StoreError::unavailable("the database is away"))
            }
            outcome = timeout(LONGEST, work) => outcome.unwrap_or_else(|_| {
                self.suspect();
                Err(StoreError::unavailable("the database takes too long"))
            }),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.availability.watch()
    }
}

/// Looks whether the database is there, for as long as it is let.
pub(super) async fn probe(config: Config, tls: Tls, breaker: Arc<Breaker>) {
    let mut client = None;
    loop {
        let outcome = match timeout(PATIENCE, ask(&mut client, &config, &tls)).await {
            Ok(outcome) => outcome.map_err(|error| error::text(&error)),
            Err(_) => Err("it does not answer".to_owned()),
        };
        breaker.availability.set(outcome);
        // Sooner if a call has noticed something.
        let _ = timeout(INTERVAL, breaker.suspected.notified()).await;
    }
}

/// One question, on the connection of before if that is still good. There is none when this was
/// dropped, or has failed.
async fn ask(client: &mut Option<Client>, config: &Config, tls: &Tls) -> Result<(), Error> {
    if let Some(known) = client.take()
        && known.simple_query(QUESTION).await.is_ok()
    {
        *client = Some(known);
        return Ok(());
    }
    // The connection may have been ended alone, by whoever looks after the database.
    let (new, connection) = config.connect(tls.clone()).await?;
    // It ends with its client, and tells that what is wrong.
    tokio::spawn(connection);
    new.simple_query(QUESTION).await?;
    *client = Some(new);
    Ok(())
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

//! The availability of a store.

use std::fmt;

use tokio::sync::watch;

/// The last result of a store's probe.
pub(super) struct Availability(watch::Sender<bool>);

impl Availability {
    /// A store that was just opened is available.
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(true))
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    /// Sets the result, and logs a change.
    pub(super) fn set(&self, found: Result<(), impl fmt::Display>) {
        self.0.send_if_modified(|is_available| match (*is_available, found) {
            (true, Err(error)) => {
                tracing::warn!(%error, "the database is unavailable");
                *is_available = false;
                true
            }
            (false, Ok(())) => {
                tracing::info!("the database is available again");
                *is_available = true;
                true
            }
            _ => false,
        });
    }
}

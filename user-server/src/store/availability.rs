//! Whether a store is there.

use std::fmt;

use tokio::sync::watch;

/// What a store's probe has found last, for whoever wants to know.
pub(super) struct Availability(watch::Sender<bool>);

impl Availability {
    /// Of a store that was just opened.
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(true))
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    /// Logs what is new.
    pub(super) fn set(&self, found: Result<(), impl fmt::Display>) {
        self.0.send_if_modified(|there| match (*there, found) {
            (true, Err(error)) => {
                tracing::warn!(%error, "the database is away");
                *there = false;
                true
            }
            (false, Ok(())) => {
                tracing::info!("the database is back");
                *there = true;
                true
            }
            _ => false,
        });
    }
}

//! When files are read again: every second, and at SIGHUP.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

/// How often watched files are read. A renewed certificate is in use within two seconds, and reading a few
/// small files costs nothing.
const INTERVAL: Duration = Duration::from_secs(1);

/// Requests to read all files now. Clones receive the same requests.
#[derive(Clone)]
pub(crate) struct Reloads(watch::Receiver<()>);

/// Why files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Interval,
    Requested,
}

/// Requests a reload at each SIGHUP, which no longer ends the process. There is no such signal on systems
/// other than Unix.
pub(crate) fn listen() -> Reloads {
    let (request, requests) = watch::channel(());
    #[cfg(unix)]
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        Ok(mut signal) => {
            tokio::spawn(async move {
                while signal.recv().await.is_some() {
                    tracing::info!(
                        "SIGHUP: reading certificates, keys and all other watched files"
                    );
                    request.send_replace(());
                }
            });
        }
        Err(error) => tracing::warn!(%error, "cannot handle SIGHUP"),
    }
    #[cfg(not(unix))]
    drop(request);
    Reloads(requests)
}

impl Reloads {
    /// Waits for a request.
    pub(crate) async fn requested(&mut self) {
        if self.0.changed().await.is_err() {
            // There is no sender any more, and so no request.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until watched files are to be read.
    pub(crate) async fn due(&mut self) -> Due {
        tokio::select! {
            () = sleep(INTERVAL) => Due::Interval,
            () = self.requested() => Due::Requested,
        }
    }
}

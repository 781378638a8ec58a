//! SIGHUP: the files that are watched are looked at now.

use tokio::sync::watch;

/// Changes at each SIGHUP, which from now on does not end the process. Elsewhere than on Unix there is none.
pub(super) fn listen() -> watch::Receiver<()> {
    let (asked, asks) = watch::channel(());
    #[cfg(unix)]
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        Ok(mut signal) => {
            tokio::spawn(async move {
                while signal.recv().await.is_some() {
                    tracing::info!(
                        "SIGHUP: reading certificates, keys and the other files that are watched"
                    );
                    asked.send_replace(());
                }
            });
        }
        Err(error) => tracing::warn!(%error, "cannot wait for SIGHUP"),
    }
    #[cfg(not(unix))]
    drop(asked);
    asks
}

/// Waits until somebody has asked; for ever where nobody can.
pub(super) async fn asked(asks: &mut watch::Receiver<()>) {
    if asks.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

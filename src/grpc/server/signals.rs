use std::future::pending;
use std::io;

/// Completes at the next SIGINT or SIGTERM (elsewhere than on Unix: Ctrl-C) after this call, for
/// [`Server::serve`](super::Server::serve). From this call on these signals no longer end the
/// process by themselves.
///
/// # Panics
/// Outside a tokio runtime.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send {
    let installed = install();
    async {
        match installed {
            Ok(signal) => signal.await,
            Err(error) => {
                tracing::error!(%error, "cannot wait for signals: only a kill ends this process");
                pending().await
            }
        }
    }
}

/// Ends the process at the next signal, for people who do not want to wait for a drain.
pub(crate) fn exit_at_next_signal() {
    /// 128 and the number of SIGINT, as shells count.
    const INTERRUPTED: i32 = 130;
    let next = shutdown_signal();
    tokio::spawn(async {
        next.await;
        tracing::warn!("stopped before the drain was over");
        std::process::exit(INTERRUPTED);
    });
}

#[cfg(unix)]
fn install() -> io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn install() -> io::Result<impl Future<Output = ()> + Send> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            pending().await
        }
    })
}

use std::future::pending;
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

/// Completes at the next SIGINT or SIGTERM after this call, for
/// [`Server::serve`](super::Server::serve). On systems other than Unix it completes at Ctrl-C. From
/// this call on these signals no longer end the process.
///
/// # Panics
/// Outside a tokio runtime.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send {
    let installed = install();
    async {
        match installed {
            Ok(signal) => signal.await,
            Err(error) => {
                tracing::error!(%error, "cannot install signal handlers: no graceful shutdown");
                pending().await
            }
        }
    }
}

/// The longest time that writing the log may delay the exit.
const LAST_LINE: Duration = Duration::from_secs(1);

/// Ends the process at the next signal, with exit code 130, without waiting for the drain. A
/// warning is logged first, and `flush` writes it out. Both may delay the exit by one second.
///
/// # Panics
/// Outside a tokio runtime.
pub fn exit_at_next_signal(flush: impl FnOnce() + Send + 'static) {
    /// 128 plus the number of SIGINT, as in shells.
    const INTERRUPTED: i32 = 130;
    let next = shutdown_signal();
    tokio::spawn(async {
        next.await;
        let (done, logged) = mpsc::channel();
        // A thread of its own, because writing the log may block. If the thread cannot be started,
        // nothing is logged.
        let _ = thread::Builder::new().spawn(move || {
            tracing::warn!("exiting on a signal before the drain has ended");
            flush();
            let _ = done.send(());
        });
        let _ = logged.recv_timeout(LAST_LINE);
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

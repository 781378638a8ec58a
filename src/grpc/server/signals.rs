use std::future::pending;
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

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

/// How long the log may keep a process that is told to end at once.
const LAST_LINE: Duration = Duration::from_secs(1);

/// Ends the process at the next signal, for people who do not want to wait for a drain. The log says
/// so before, and `flush` writes it out, if both are done within a second.
pub fn exit_at_next_signal(flush: impl FnOnce() + Send + 'static) {
    /// 128 and the number of SIGINT, as shells count.
    const INTERRUPTED: i32 = 130;
    let next = shutdown_signal();
    tokio::spawn(async {
        next.await;
        let (done, logged) = mpsc::channel();
        // Not on this thread, which must not wait for a log that nobody reads. If there is none for
        // it, nothing is logged.
        let _ = thread::Builder::new().spawn(move || {
            tracing::warn!("stopped before the drain was over");
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

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::services::health::Health;

/// The exit code of a process that a second signal ends: 128 and the number of SIGINT, as shells
/// count.
const INTERRUPTED: i32 = 130;

/// Completes at SIGINT or SIGTERM, with the health already NOT_SERVING. A second signal ends the
/// process at once.
///
/// # Errors
/// If the handlers cannot be installed.
pub(super) fn shutdown(health: Health) -> io::Result<impl Future<Output = ()>> {
    let mut signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    Ok(async move {
        any(&mut signals).await;
        tracing::info!("draining: a second signal stops at once");
        health.shutdown();
        tokio::spawn(async move {
            any(&mut signals).await;
            tracing::warn!("stopped before the drain was over");
            std::process::exit(INTERRUPTED);
        });
    })
}

async fn any(signals: &mut [Signal]) {
    poll_fn(|cx| {
        let received = signals.iter_mut().any(|signal| signal.poll_recv(cx).is_ready());
        if received { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

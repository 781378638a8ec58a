//! Limits the CPU time of TLS handshakes. A handshake takes milliseconds (6 ms with a 4096-bit RSA
//! key), and any client can start one.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::grpc::call::{Peer, PeerAddr};
use crate::log_throttle::LogThrottle;
use crate::rate::{Local, Rate, network};

/// Handshakes take at most this fraction (1/2) of a thread's time. The rest is for calls on open
/// connections.
const CPU_DIVISOR: u32 = 2;

/// CPU time, already multiplied by the divisor, that may be spent in a burst.
const BURST: Duration = Duration::from_millis(100);

/// Addresses in the table, at 48 bytes each: 3 MiB if it is full.
const ROOM: usize = 1 << 16;

/// The limits of a server, per address and per thread.
#[derive(Clone)]
pub(crate) struct HandshakeLimits {
    /// `None` is no limit.
    addresses: Option<Arc<Addresses>>,
    cpu: Arc<CpuLimiter>,
}

struct Addresses {
    rate: Rate,
    counts: Local,
    refused: Mutex<LogThrottle>,
}

impl HandshakeLimits {
    /// For a runtime with this many threads.
    pub(crate) fn new(per_minute: Option<u32>, threads: usize) -> Self {
        let addresses = per_minute.map(|calls| {
            let rate = Rate { calls, period: Duration::from_secs(60) };
            let (counts, refused) = (Local::with_room_for(ROOM), Mutex::new(LogThrottle::new(1)));
            Arc::new(Addresses { rate, counts, refused })
        });
        Self { addresses, cpu: Arc::new(CpuLimiter::new(threads)) }
    }

    /// Shares the limit per address, with a CPU limit for one more thread.
    pub(crate) fn for_thread(&self) -> Self {
        Self { cpu: Arc::new(CpuLimiter::new(1)), ..self.clone() }
    }

    /// Whether this peer may start a handshake. If not, it logs a warning.
    pub(crate) fn admit(&self, peer: &Peer) -> bool {
        let (Some(addresses), PeerAddr::Tcp(from)) = (&self.addresses, &peer.addr) else {
            return true;
        };
        let admitted = addresses.counts.take(network(from.ip()), addresses.rate).is_ok();
        if !admitted {
            let per_minute = addresses.rate.calls;
            addresses.refused.lock().unwrap_or_else(PoisonError::into_inner).log(|times| {
                tracing::warn!(
                    %peer,
                    times,
                    per_minute,
                    "too many TLS handshakes from one address, closing its connections"
                );
            });
        }
        admitted
    }

    /// Runs a handshake within the CPU limit.
    pub(crate) async fn work<F: Future>(&self, handshake: F) -> F::Output {
        self.cpu.run(handshake).await
    }
}

impl fmt::Debug for HandshakeLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeLimits").finish_non_exhaustive()
    }
}

/// Polls futures in the order in which they were woken, within a limit on CPU time.
struct CpuLimiter {
    threads: u32,
    permits: Semaphore,
    /// The time at which the work so far is within the limit.
    busy_until: Mutex<Instant>,
}

impl CpuLimiter {
    fn new(threads: usize) -> Self {
        let threads = threads.clamp(1, 1024);
        let (permits, busy_until) = (Semaphore::new(threads), Mutex::new(Instant::now()));
        Self { threads: threads as u32, permits, busy_until }
    }

    async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            // Never an error, because the semaphore is never closed.
            let turn = self.permits.acquire().await;
            if let Some(time) = self.wait() {
                sleep(time).await;
            }
            let began = std::time::Instant::now();
            let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
            self.charge(began.elapsed());
            drop(turn);
            if let Poll::Ready(output) = polled {
                return output;
            }
            // Wait until the future wakes this task.
            let mut woken = false;
            poll_fn(|_| match std::mem::replace(&mut woken, true) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
        }
    }

    fn wait(&self) -> Option<Duration> {
        let busy_until = *self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        busy_until.checked_duration_since(Instant::now() + BURST)
    }

    fn charge(&self, time: Duration) {
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        *busy_until = (*busy_until).max(Instant::now()) + time * CPU_DIVISOR / self.threads;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::ready;

    use futures_util::future::join_all;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn handshakes_use_at_most_half_a_thread() {
        let (cpu, start) = (CpuLimiter::new(1), Instant::now());
        let work = |_| async {
            cpu.run(ready(())).await;
            cpu.charge(Duration::from_millis(10));
        };
        join_all((0..5).map(work)).await;
        assert!(
            start.elapsed() < Duration::from_millis(10),
            "a few at once: {:?}",
            start.elapsed()
        );
        join_all((0..100).map(work)).await;
        let took = start.elapsed();
        assert!((1900..2100).contains(&took.as_millis()), "{took:?}");
        // Unused time gives no credit beyond the burst.
        tokio::time::advance(Duration::from_secs(60)).await;
        let start = Instant::now();
        join_all((0..100).map(work)).await;
        assert!(start.elapsed() > Duration::from_millis(1800), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn handshake_waiting_for_its_client_blocks_no_other() {
        let cpu = CpuLimiter::new(1);
        let silent = cpu.run(std::future::pending::<()>());
        let other = async {
            yield_now().await;
            cpu.run(async { yield_now().await }).await;
        };
        tokio::select! {
            () = silent => unreachable!(),
            () = other => {}
        }
    }
}

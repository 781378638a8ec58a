use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};

/// Bytes that the calls of a connection may pass to h2 while the socket is blocked: enough for a
/// turn at 8 Gbit/s.
const LIMIT: usize = 1024 * 1024;

/// Applies backpressure: limits the bytes that calls pass to h2. Bytes in a call count against its
/// budgets. Bytes in h2 do not, and h2 keeps them until the peer reads.
///
/// Only the connection's task uses it.
#[derive(Debug, Default)]
pub(super) struct SendBufferLimit {
    /// Bytes that h2 has received and may not have written yet.
    given: AtomicUsize,
    /// Calls that wait for room.
    waiting: Mutex<Vec<Waker>>,
}

impl SendBufferLimit {
    /// The number of bytes that h2 may still receive.
    pub(super) fn room(&self) -> usize {
        LIMIT.saturating_sub(self.given.load(Ordering::Relaxed))
    }

    /// Whether h2 has written everything.
    pub(super) fn is_empty(&self) -> bool {
        self.given.load(Ordering::Relaxed) == 0
    }

    /// Counts bytes that are passed to h2.
    pub(super) fn give(&self, bytes: usize) {
        let given = self.given.load(Ordering::Relaxed);
        self.given.store(given + bytes, Ordering::Relaxed);
    }

    /// Wakes this task when there is room again.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
    }

    /// Records that h2 has written everything, and wakes the waiting calls.
    pub(super) fn written(&self) {
        if self.is_empty() {
            return;
        }
        self.given.store(0, Ordering::Relaxed);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = std::mem::take(&mut *waiting);
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn send_buffer_limit_wakes_waiting_calls_when_written() {
        let send_buffer = SendBufferLimit::default();
        let woken = Arc::new(Woken::default());
        send_buffer.give(LIMIT - 1);
        assert_eq!(send_buffer.room(), 1);
        send_buffer.give(1);
        assert_eq!((send_buffer.room(), send_buffer.is_empty()), (0, false));
        send_buffer.wait(&Context::from_waker(&woken.clone().into()));
        assert!(!woken.0.load(Ordering::Relaxed));
        send_buffer.written();
        assert!(woken.0.load(Ordering::Relaxed));
        assert_eq!((send_buffer.room(), send_buffer.is_empty()), (LIMIT, true));
    }
}

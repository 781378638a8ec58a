use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};

/// What the calls of a connection may hand to h2 while the socket takes nothing, in bytes: enough
/// for a turn at 8 Gbit/s.
const LIMIT: usize = 1024 * 1024;

/// The way of responses out of a connection. What calls have in hand counts against their budgets;
/// h2 keeps what it is given for as long as the peer does not read, so it is given little.
///
/// Used by the task of the connection alone.
#[derive(Debug, Default)]
pub(crate) struct SendBufferLimit {
    /// Bytes that h2 was given and may not have written yet.
    given: AtomicUsize,
    /// Calls that wait for room.
    waiting: Mutex<Vec<Waker>>,
}

impl SendBufferLimit {
    /// How many bytes h2 may be given.
    pub(crate) fn room(&self) -> usize {
        LIMIT.saturating_sub(self.given.load(Ordering::Relaxed))
    }

    /// Whether h2 has nothing left to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.given.load(Ordering::Relaxed) == 0
    }

    /// Counts bytes that h2 is given.
    pub(crate) fn give(&self, bytes: usize) {
        let given = self.given.load(Ordering::Relaxed);
        self.given.store(given + bytes, Ordering::Relaxed);
    }

    /// Wakes this task once there is room again.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
    }

    /// h2 has written all that it was given.
    pub(crate) fn written(&self) {
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

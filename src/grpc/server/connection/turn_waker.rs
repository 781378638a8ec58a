use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

const RESTING: u8 = 0;
const TURNING: u8 = 1;
const WOKEN: u8 = 2;

/// Separates wakes during a turn from wakes while the connection rests.
///
/// A response wakes the connection through h2 while the connection itself polls the call. Passed to
/// the runtime, each wake would cost another poll of the task. During a turn, a wake only requests
/// another turn.
///
/// ```text
///            begin()               wake()
///  RESTING ---------->  TURNING ----------> WOKEN --.
///     ^  ^                 |                  | ^   | rest() is false: begin() again
///     |  `---- rest() -----'                  | `---'
///     |                                       |
///     `------ wake() also wakes the task -----'  (RESTING -> WOKEN)
/// ```
#[derive(Default)]
pub(crate) struct TurnWaker {
    state: AtomicU8,
    task: AtomicWaker,
}

impl TurnWaker {
    /// Sets the task that is woken while the connection rests.
    pub(crate) fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Starts a turn, which polls everything that was woken before.
    pub(crate) fn begin(&self) {
        self.state.swap(TURNING, Ordering::AcqRel);
    }

    /// Whether something was woken in this turn.
    pub(crate) fn is_woken(&self) -> bool {
        self.state.load(Ordering::Acquire) == WOKEN
    }

    /// Ends the turns and returns true, unless something was woken in this one.
    pub(crate) fn rest(&self) -> bool {
        self.state.compare_exchange(TURNING, RESTING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Wake for TurnWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == RESTING {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn turn_waker_defers_wakes_during_a_turn() {
        let task = Arc::new(Counter::default());
        let turn = Arc::new(TurnWaker::default());
        turn.register(&task.clone().into());

        turn.begin();
        turn.wake_by_ref();
        assert!(!turn.rest());
        assert_eq!(task.0.load(Ordering::SeqCst), 0);

        turn.begin();
        assert!(turn.rest());
        turn.wake_by_ref();
        turn.wake_by_ref();
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
    }
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

const RESTING: u8 = 0;
const TURNING: u8 = 1;
const WOKEN: u8 = 2;

/// Tells a connection's own wake-ups from those that come while it rests.
///
/// Calls that answer wake the connection (through h2), and they answer while the connection's own
/// future polls them. Handed to the runtime, each such wake would cost one more poll of the task;
/// here it only says that another turn is worth while.
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
    /// Sets the task to wake while the connection rests.
    pub(crate) fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Starts a turn: what was woken so far is about to be polled.
    pub(crate) fn begin(&self) {
        self.state.swap(TURNING, Ordering::AcqRel);
    }

    /// Ends the turns, unless something was woken in this one.
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

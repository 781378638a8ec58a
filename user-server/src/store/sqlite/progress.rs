//! The progress of the writer, for the probe.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The current state of the writer.
#[derive(Default)]
pub(super) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The start of the current transaction.
    begun: Option<Instant>,
    /// Why the file cannot be written.
    fault: Option<String>,
    /// Whether a fault has begun or ended since the last probe.
    has_changed: bool,
    stopped: bool,
}

impl Progress {
    pub(super) fn begin(&self) {
        self.state().begun = Some(Instant::now());
    }

    /// Ends a transaction. `fault` is why the file cannot be written.
    pub(super) fn end(&self, fault: Option<String>) {
        let mut state = self.state();
        state.has_changed |= state.fault.is_some() != fault.is_some();
        state.begun = None;
        state.fault = fault;
        if state.has_changed {
            self.changed.notify_one();
        }
    }

    /// Waits for a change, but at most `interval`. False once the probe is stopped.
    pub(super) fn wait(&self, interval: Duration) -> bool {
        let unchanged = |state: &mut State| !state.has_changed && !state.stopped;
        let waited = self.changed.wait_timeout_while(self.state(), interval, unchanged);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.has_changed = false;
        !state.stopped
    }

    pub(super) fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_one();
    }

    /// Why the file cannot be written, by the last transaction.
    pub(super) fn fault(&self) -> Option<String> {
        self.state().fault.clone()
    }

    /// How long the current transaction has taken.
    pub(super) fn elapsed(&self) -> Option<Duration> {
        self.state().begun.map(|begun| begun.elapsed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

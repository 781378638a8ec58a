use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::grpc::method::Method;

/// Slow polls may take this much of a [`WINDOW`] without a warning: a hundredth. On a busy machine
/// any poll is sometimes slow, because its thread waits for a CPU.
const TOLERATED: Duration = Duration::from_millis(100);

/// The period for which slow polls are added up. There is at most one warning per method in it.
const WINDOW: Duration = Duration::from_secs(10);

/// Slow polls, by method.
#[derive(Debug, Default)]
pub(crate) struct SlowPolls(Mutex<HashMap<&'static Method, Entry>>);

#[derive(Debug)]
struct Entry {
    count: u64,
    /// Start of the current window.
    since: Instant,
    lost: Duration,
    warned: bool,
}

impl SlowPolls {
    /// Returns the methods that had slow polls, with their numbers.
    pub(crate) fn counts(&self) -> Vec<(&'static Method, u64)> {
        self.lock().iter().map(|(method, entry)| (*method, entry.count)).collect()
    }

    /// Counts a slow poll. The lock is cheap compared with the poll.
    #[cold]
    pub(crate) fn add(&self, method: &'static Method, time: Duration) {
        let now = Instant::now();
        let mut entries = self.lock();
        let entry = entries.entry(method).or_insert_with(|| Entry::new(0, now));
        let warn = entry.add(time, now);
        let (slow_polls, lost) = (entry.count, entry.lost);
        drop(entries);
        if warn {
            tracing::warn!(
                %method,
                last = ?time,
                lately = ?lost,
                slow_polls,
                "a handler delays the other calls of its connection and worker; set CallOptions::spawn \
                 to run it on other threads"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<&'static Method, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(count: u64, since: Instant) -> Self {
        Self { count, since, lost: Duration::ZERO, warned: false }
    }

    /// Adds a slow poll. Returns whether to log a warning.
    fn add(&mut self, time: Duration, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= WINDOW {
            *self = Self::new(self.count, now);
        }
        self.count += 1;
        self.lost += time;
        let much = self.lost >= TOLERATED;
        much && !std::mem::replace(&mut self.warned, much)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_polls_warn_once_per_window() {
        let start = Instant::now();
        let mut entry = Entry::new(0, start);
        let warned = |entry: &mut Entry, time, at| entry.add(time, start + at);
        for at in [Duration::ZERO, WINDOW, 2 * WINDOW] {
            assert!(!warned(&mut entry, TOLERATED / 2, at));
            assert!(warned(&mut entry, TOLERATED / 2, at + WINDOW / 2));
            assert!(!warned(&mut entry, TOLERATED, at + WINDOW / 2));
        }
        for n in 3..10 {
            assert!(!warned(&mut entry, TOLERATED / 2, n * WINDOW));
        }
        assert_eq!(entry.count, 3 * 3 + 7);
    }
}

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Functions that run for each message of a call. Without any, a message needs no lock.
pub(super) struct Hooks<T> {
    hooks: Mutex<Vec<T>>,
    /// Whether `hooks` is not empty.
    any: AtomicBool,
}

impl<T> Hooks<T> {
    pub(super) fn new() -> Self {
        Self { hooks: Mutex::default(), any: AtomicBool::new(false) }
    }

    pub(super) fn add(&self, hook: T) {
        self.all().push(hook);
        self.any.store(true, Ordering::Release);
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Returns all hooks, in the order in which they were added.
    pub(super) fn all(&self) -> MutexGuard<'_, Vec<T>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is to be run for each message of a call. A message costs no lock where there is nothing.
pub(super) struct Hooks<T> {
    hooks: Mutex<Vec<T>>,
    /// Whether there are any.
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

    /// All of them, in the order in which they were added.
    pub(super) fn all(&self) -> MutexGuard<'_, Vec<T>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

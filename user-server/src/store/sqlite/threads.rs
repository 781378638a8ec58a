//! Threads that do what calls wait for.

use std::thread::JoinHandle;

use super::StoreError;
use super::turns::{Queue, Turns, queue, stopped};

/// A thread and the queue that it takes from. Dropping it waits for its end.
pub(super) struct Worker<Job> {
    queue: Option<Queue<Job>>,
    thread: Vec<JoinHandle<()>>,
}

impl<Job: Send + 'static> Worker<Job> {
    /// Starts a thread that is to run until the queue is closed.
    pub(super) fn start(
        name: &str,
        run: impl FnOnce(Turns<Job>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (queue, turns) = queue();
        let thread = vec![start(name, move || run(turns))?];
        Ok(Self { queue: Some(queue), thread })
    }

    /// Where changes are put.
    pub(super) fn queue(&self) -> Result<&Queue<Job>, StoreError> {
        self.queue.as_ref().ok_or_else(stopped)
    }
}

impl<Job> Drop for Worker<Job> {
    fn drop(&mut self) {
        self.queue = None;
        join(&mut self.thread);
    }
}

pub(super) fn start(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new().name(name.into()).spawn(run).map_err(StoreError::unavailable)
}

/// Waits until they have ended.
pub(super) fn join(threads: &mut Vec<JoinHandle<()>>) {
    for thread in threads.drain(..) {
        // One that panicked has said so.
        let _ = thread.join();
    }
}

//! Worker threads with a queue.

use std::thread::JoinHandle;

use super::StoreError;
use super::write_queue::{Groups, Queue, queue, stopped};

/// A thread and its queue. Dropping it waits for the end of the thread.
pub(super) struct Worker<Job> {
    queue: Option<Queue<Job>>,
    thread: Vec<JoinHandle<()>>,
}

impl<Job: Send + 'static> Worker<Job> {
    /// Starts a thread that runs until the queue is closed.
    pub(super) fn start(
        name: &str,
        run: impl FnOnce(Groups<Job>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (queue, groups) = queue();
        let thread = vec![start(name, move || run(groups))?];
        Ok(Self { queue: Some(queue), thread })
    }

    /// The queue of the thread.
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

/// Waits for the end of the threads.
pub(super) fn join(threads: &mut Vec<JoinHandle<()>>) {
    for thread in threads.drain(..) {
        // A panic of the thread was logged already.
        let _ = thread.join();
    }
}

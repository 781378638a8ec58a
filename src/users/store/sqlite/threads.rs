//! Threads that do what calls wait for.

use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::StoreError;

/// How many calls wait in a queue at most; more wait to be let in, in the order in which they came.
const QUEUE_LEN: usize = 1024;

/// Where a thread puts what a call waits for. Closed when nobody waits any more.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A thread and the queue that it takes from. Dropping it waits for its end.
pub(super) struct Worker<Job> {
    queue: Option<mpsc::Sender<Job>>,
    thread: Vec<JoinHandle<()>>,
}

impl<Job: Send + 'static> Worker<Job> {
    /// Starts a thread that is to run until the queue is closed.
    pub(super) fn start(
        name: &str,
        run: impl FnOnce(mpsc::Receiver<Job>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::channel(QUEUE_LEN);
        let thread = vec![start(name, move || run(jobs))?];
        Ok(Self { queue: Some(queue), thread })
    }

    /// Where jobs are put.
    pub(super) fn queue(&self) -> Result<&mpsc::Sender<Job>, StoreError> {
        self.queue.as_ref().ok_or_else(stopped)
    }

    /// Has a job done. If the future is dropped, so is the job, unless it was begun.
    pub(super) async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue()?.send(job(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
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

pub(super) fn stopped() -> StoreError {
    StoreError::internal("its thread has stopped")
}

//! Threads that do what calls wait for.

use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::StoreError;

/// How many calls wait in a queue at most; more wait to be let in, in the order in which they came.
const QUEUE_LEN: usize = 1024;

/// Where a thread puts what a call waits for. Closed when nobody waits any more.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A queue and the threads that take from it. Dropping it waits for their end.
pub(super) struct Threads<Job> {
    queue: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl<Job: Send> Threads<Job> {
    /// None at first; and the end of the queue that they are to share.
    pub(super) fn new() -> (Self, mpsc::Receiver<Job>) {
        let (queue, jobs) = mpsc::channel(QUEUE_LEN);
        (Self { queue: Some(queue), threads: Vec::new() }, jobs)
    }

    /// Starts a thread that is to run until the queue is closed.
    pub(super) fn start(
        &mut self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(run);
        self.threads.push(thread.map_err(StoreError::unavailable)?);
        Ok(())
    }

    /// Where jobs are put.
    pub(super) fn queue(&self) -> Result<&mpsc::Sender<Job>, StoreError> {
        self.queue.as_ref().ok_or_else(stopped)
    }

    /// Waits until there is room for a job in the queue.
    pub(super) async fn put(&self, job: Job) -> Result<(), StoreError> {
        self.queue()?.send(job).await.map_err(|_| stopped())
    }

    /// Has a job done. If the future is dropped, so is the job, unless it was begun.
    pub(super) async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.put(job(reply)).await?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> StoreError {
    StoreError::internal("its thread has stopped")
}

impl<Job> Drop for Threads<Job> {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

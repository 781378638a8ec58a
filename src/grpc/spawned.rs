use std::any::Any;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::status::Status;

/// How a handler runs that is no part of its connection's future, but a task of its own.
pub(crate) struct SpawnedHandler {
    /// Where it runs; `None` is the runtime of its connection.
    pub(crate) runtime: Option<Handle>,
    /// Whether it is left alone when its call ends without it.
    pub(crate) to_completion: bool,
    /// What the server's drain waits for.
    pub(crate) hold: Arc<dyn Any + Send + Sync>,
}

impl SpawnedHandler {
    /// Starts the task. What it gives is awaited in place of the handler.
    pub(crate) fn start<T>(self, handler: impl Future<Output = T> + Send + 'static) -> Task<T>
    where
        T: From<Status> + Send + 'static,
    {
        let Self { runtime, to_completion, hold } = self;
        let running = async move {
            let _hold = hold;
            handler.await
        };
        let handle = match runtime {
            Some(runtime) => runtime.spawn(running),
            None => tokio::spawn(running),
        };
        Task { handle, to_completion }
    }
}

/// A handler's task, for the guard to poll and to drop like any handler.
pub(crate) struct Task<T> {
    handle: JoinHandle<T>,
    to_completion: bool,
}

impl<T: From<Status>> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let ended = ready!(Pin::new(&mut self.handle).poll(cx));
        Poll::Ready(ended.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => Status::unavailable("the server is shutting down").into(),
        }))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if !self.to_completion {
            self.handle.abort();
        }
    }
}

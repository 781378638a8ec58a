use std::any::Any;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::status::Status;

/// The settings of a handler that runs as a separate task, outside of its connection's future.
pub(crate) struct SpawnedHandler {
    /// The runtime of the task; `None` is the runtime of the connection.
    pub(crate) runtime: Option<Handle>,
    /// Whether the handler continues after its call has ended.
    pub(crate) to_completion: bool,
    /// The task holds this value, and the server's drain waits until it is dropped.
    pub(crate) hold: Arc<dyn Any + Send + Sync>,
}

impl SpawnedHandler {
    /// Starts the task. The result is awaited in place of the handler.
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

/// A handler's task. The call boundary polls and drops it like a handler's future.
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

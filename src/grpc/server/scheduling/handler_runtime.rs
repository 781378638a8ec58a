use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime with a thread per core, for handlers that compute for long. In the connection's future
/// they would block other calls.
///
/// Connections never run on this runtime, even if the server runs on the caller's multi-thread
/// runtime. A computing task there can hold the thread that polls for I/O. While nothing else
/// happens, no other thread takes over that polling.
pub(crate) struct HandlerRuntime(Option<Runtime>);

impl HandlerRuntime {
    /// # Errors
    /// If a thread cannot be started.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().thread_name("handlers").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }
}

/// Dropping a runtime waits for computing tasks, and panics in an asynchronous context.
impl Drop for HandlerRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

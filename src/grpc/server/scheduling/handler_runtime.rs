use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime with a thread per core, for handlers that compute and would hold up their connection.
///
/// It is the server's own, and connections never run on it, also where they run on the caller's
/// multi-thread runtime: a task that computes there may hold the thread that was last to look for
/// what has arrived, and as long as nothing else happens nobody looks in its place.
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

/// Dropped by itself, a runtime would wait for tasks that compute, and may not be dropped where
/// this is.
impl Drop for HandlerRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

use std::fmt;
use std::sync::Arc;

use crate::grpc::exchange::Exchange;
use crate::grpc::status::Status;

/// Observes a call from outside of its handler's future: a task, a thread, or an interceptor that has given the
/// call away. [`Call::handle`](crate::Call::handle) makes it; clones observe the same call.
#[derive(Clone)]
pub struct CallHandle {
    exchange: Arc<Exchange>,
}

impl CallHandle {
    pub(super) fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange }
    }

    /// The number of messages that the handler has received so far.
    pub fn received(&self) -> u64 {
        self.exchange.received()
    }

    /// The number of messages that the handler has sent so far.
    pub fn sent(&self) -> u64 {
        self.exchange.sent()
    }

    /// The caller's name, if an interceptor has [set it](crate::Call::attribute_to).
    pub fn principal(&self) -> Option<&str> {
        self.exchange.principal().get().map(|name| &**name)
    }

    /// Whether the call has ended: its response is complete, the client has cancelled it, its deadline has passed,
    /// or the connection or the server is gone.
    pub fn is_ended(&self) -> bool {
        self.exchange.ended().is_some()
    }

    /// Waits until the call has ended, and returns the reason. For work outside of the handler's future, which has
    /// to stop when the call does: the future itself is dropped. Cancel safe.
    pub async fn ended(&self) -> Status {
        self.exchange.until_ended().await
    }

    /// Waits until the server begins to drain or the call has ended. A handler that streams without an end can then
    /// end by itself, before the drain timeout. Returns the status to end with: UNAVAILABLE, or the reason why the
    /// call has ended. Cancel safe.
    pub async fn draining(&self) -> Status {
        self.exchange.until_draining().await
    }
}

impl fmt::Debug for CallHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallHandle")
            .field("received", &self.received())
            .field("sent", &self.sent())
            .field("principal", &self.principal())
            .field("is_ended", &self.is_ended())
            .finish()
    }
}

/// Memory that is charged to a call until this is dropped.
pub struct Charge {
    exchange: Arc<Exchange>,
    bytes: usize,
}

impl Charge {
    pub(super) fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange, bytes: 0 }
    }

    /// Sets the number of bytes that are charged.
    pub fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.exchange.charge(self.bytes, bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

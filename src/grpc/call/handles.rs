use std::fmt;
use std::sync::Arc;

use crate::grpc::exchange::Exchange;
use crate::grpc::status::Status;

/// Observes a call from outside of its handler's future: from a task, a thread, or an interceptor
/// that has passed the call on. [`Call::handle`](crate::Call::handle) returns it. Clones observe
/// the same call.
#[derive(Clone)]
pub struct CallHandle {
    exchange: Arc<Exchange>,
}

impl CallHandle {
    pub(super) fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange }
    }

    /// Returns the number of messages that the handler has received so far.
    pub fn received(&self) -> u64 {
        self.exchange.received()
    }

    /// Returns the number of messages that the handler has sent so far.
    pub fn sent(&self) -> u64 {
        self.exchange.sent()
    }

    /// Returns the caller's name, if an interceptor has [set it](crate::Call::attribute_to).
    pub fn principal(&self) -> Option<&str> {
        self.exchange.principal().get().map(|name| &**name)
    }

    /// Whether the call has ended. A call ends when its response is complete, the client cancels
    /// it, its deadline passes, or the connection or the server shuts down.
    pub fn is_ended(&self) -> bool {
        self.exchange.ended().is_some()
    }

    /// Waits until the call has ended, and returns the reason. It is for work outside of the
    /// handler's future that has to stop with the call; the future itself is dropped. Cancel safe.
    pub async fn ended(&self) -> Status {
        self.exchange.until_ended().await
    }

    /// Waits until the server begins to drain or the call has ended. A handler with an endless
    /// stream can then end it before the drain timeout. Returns the status to end with:
    /// UNAVAILABLE, or the reason why the call has ended. Cancel safe.
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

/// Memory that is charged to a call. Dropping it ends the charge.
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

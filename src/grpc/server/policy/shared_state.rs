use std::sync::atomic::{AtomicU32, Ordering};

use crate::grpc::counter::Counter;

/// State that the calls of one connection share with its enforcement policy.
#[derive(Debug)]
pub(crate) struct SharedState {
    /// The longest header list that the client accepts, in bytes as RFC 9113 (6.5.2) counts them.
    header_limit: AtomicU32,
    /// Messages that handlers of client-streaming methods have taken.
    pub(crate) messages: Counter,
    /// Calls that the client has reset late.
    pub(crate) late_resets: Counter,
}

impl Default for SharedState {
    fn default() -> Self {
        // The client has no limit until it sends one.
        let header_limit = AtomicU32::new(u32::MAX);
        Self { header_limit, messages: Counter::default(), late_resets: Counter::default() }
    }
}

impl SharedState {
    pub(crate) fn header_limit(&self) -> usize {
        self.header_limit.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn set_header_limit(&self, bytes: u32) {
        self.header_limit.store(bytes, Ordering::Relaxed);
    }
}

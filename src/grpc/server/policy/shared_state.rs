use std::sync::atomic::{AtomicU32, Ordering};

use crate::grpc::counter::Counter;

/// What the calls of one connection and its policy tell each other.
#[derive(Debug)]
pub(crate) struct SharedState {
    /// The longest header list that the client accepts, in bytes as RFC 9113 (6.5.2) counts them.
    header_limit: AtomicU32,
    /// Messages that the handlers of client streams have taken.
    pub(crate) messages: Counter,
    /// Calls that the client has reset, but not at once.
    pub(crate) late_resets: Counter,
}

impl Default for SharedState {
    fn default() -> Self {
        // No limit holds until the client states one.
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

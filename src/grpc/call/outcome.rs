use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::grpc::exchange::Exchange;
use crate::grpc::metadata::Metadata;
use crate::grpc::status::Status;

/// The result of a call, which interceptors receive and return.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// The status that is sent to the client.
    pub status: Status,
    /// Trailing metadata.
    pub trailers: Metadata,
}

impl Outcome {
    /// Success without trailing metadata.
    pub fn ok() -> Self {
        Self { status: Status::ok(), trailers: Metadata::new() }
    }
}

/// Metadata that a status carries becomes trailing metadata.
impl From<Status> for Outcome {
    fn from(mut status: Status) -> Self {
        let trailers = status.take_metadata();
        Self { status, trailers }
    }
}

/// Response metadata that is not sent yet. It is taken out to be changed, and put back on drop.
pub struct MetadataMut<'a> {
    exchange: &'a Exchange,
    trailing: bool,
    metadata: Metadata,
}

impl<'a> MetadataMut<'a> {
    pub(crate) fn trailing(exchange: &'a Exchange) -> Self {
        let metadata = std::mem::take(&mut exchange.lock().outbound.trailers);
        Self { exchange, trailing: true, metadata }
    }

    pub(crate) fn initial(exchange: &'a Exchange) -> Self {
        let metadata = std::mem::take(&mut exchange.lock().outbound.metadata);
        Self { exchange, trailing: false, metadata }
    }
}

impl Drop for MetadataMut<'_> {
    fn drop(&mut self) {
        let mut metadata = std::mem::take(&mut self.metadata);
        let outbound = &mut self.exchange.lock().outbound;
        let place = if self.trailing { &mut outbound.trailers } else { &mut outbound.metadata };
        // Entries that were set meanwhile are kept.
        metadata.merge(std::mem::take(place));
        *place = metadata;
    }
}

impl Deref for MetadataMut<'_> {
    type Target = Metadata;

    fn deref(&self) -> &Metadata {
        &self.metadata
    }
}

impl DerefMut for MetadataMut<'_> {
    fn deref_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

impl fmt::Debug for MetadataMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.metadata.fmt(f)
    }
}

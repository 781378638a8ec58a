use std::future::poll_fn;
use std::ops::{Deref, DerefMut};

use prost::{DecodeError, Message};

use super::call::Call;
use super::exchange::Exchange;
use super::metadata::Metadata;
use super::method::UNKNOWN_METHOD;
use super::status::Status;

/// A request message, or the stream of them, with the [`Call`] that it belongs to.
#[derive(Debug)]
pub struct Request<T> {
    /// The message; of a client-streaming call the [`Streaming`] of messages.
    pub message: T,
    call: Call,
}

impl<T> Request<T> {
    /// A request that came over no network, to call a handler in a test.
    pub fn new(message: T) -> Self {
        Self { message, call: Call::detached(&UNKNOWN_METHOD) }
    }

    pub(crate) fn of_call(message: T, call: Call) -> Self {
        Self { message, call }
    }

    /// Whether the message came compressed, by the call's [encoding](Call::request_encoding); of a
    /// client-streaming call the last that was read.
    pub fn was_compressed(&self) -> bool {
        self.call.exchange().compressed()
    }

    /// The message alone.
    pub fn into_message(self) -> T {
        self.message
    }

    /// The message and the call.
    pub fn into_parts(self) -> (T, Call) {
        (self.message, self.call)
    }
}

impl<T> Deref for Request<T> {
    type Target = Call;

    fn deref(&self) -> &Call {
        &self.call
    }
}

impl<T> DerefMut for Request<T> {
    fn deref_mut(&mut self) -> &mut Call {
        &mut self.call
    }
}

/// The single response message of a call, with its metadata. Initial and trailing metadata may each
/// be as long as the client accepts as headers (`SETTINGS_MAX_HEADER_LIST_SIZE`, often 8 KiB); a call
/// with more ends with RESOURCE_EXHAUSTED.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Response<T> {
    /// The message.
    pub message: T,
    /// Initial metadata, sent before the message.
    pub metadata: Metadata,
    /// Trailing metadata, sent with the status.
    pub trailers: Metadata,
}

impl<T> Response<T> {
    /// A response without metadata.
    pub fn new(message: T) -> Self {
        Self { message, metadata: Metadata::new(), trailers: Metadata::new() }
    }
}

/// The one message of a call that does not stream, once the client's half-close shows that it is the
/// only one.
pub(crate) async fn only_message<T>(exchange: &Exchange) -> Result<T, Status>
where
    T: Message + Default,
{
    let message = poll_fn(|cx| exchange.poll_only(cx)).await?;
    T::decode(message).map_err(|error| not_protobuf(&error))
}

pub(super) fn not_protobuf(error: &DecodeError) -> Status {
    Status::internal(format!("the message is not valid protobuf: {error}"))
}

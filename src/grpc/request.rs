use std::future::poll_fn;
use std::ops::{Deref, DerefMut};

use prost::{DecodeError, Message};

use super::call::Call;
use super::exchange::Exchange;
use super::metadata::Metadata;
use super::method::UNKNOWN_METHOD;
use super::status::Status;

/// A request message, or a stream of them, with its [`Call`].
#[derive(Debug)]
pub struct Request<T> {
    /// The message, or the [`Streaming`](crate::Streaming) of messages in a client-streaming call.
    pub message: T,
    call: Call,
}

impl<T> Request<T> {
    /// A request without a connection, to call a handler in a test.
    pub fn new(message: T) -> Self {
        Self { message, call: Call::detached(&UNKNOWN_METHOD) }
    }

    pub(crate) fn of_call(message: T, call: Call) -> Self {
        Self { message, call }
    }

    /// Whether the message arrived compressed with the call's [encoding](Call::request_encoding).
    /// In a client-streaming call, it applies to the last message that was read.
    pub fn was_compressed(&self) -> bool {
        self.call.exchange().compressed()
    }

    /// Returns the message without the call.
    pub fn into_message(self) -> T {
        self.message
    }

    /// Returns the message and the call.
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

/// The single response message of a call, with its metadata. Initial and trailing metadata each
/// have to fit into the client's header limit (`SETTINGS_MAX_HEADER_LIST_SIZE`, often 8 KiB). A
/// call with more ends with RESOURCE_EXHAUSTED.
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

/// Reads the only request message. Ready after the client's half-close, which shows that no second
/// message follows.
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

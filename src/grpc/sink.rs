use std::borrow::Borrow;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;

use prost::Message;

use super::call::MetadataMut;
use super::encoded::Encoded;
use super::exchange::Exchange;
use super::status::Status;

/// The sending half of a streamed response. The handler's return value ends the call.
///
/// Messages are buffered while the handler runs. They are sent together when it awaits, or when 16
/// KiB are buffered.
pub struct Sink<T> {
    exchange: Arc<Exchange>,
    messages: PhantomData<fn(T)>,
}

impl<T: Message> Sink<T> {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange, messages: PhantomData }
    }

    /// Sends a message: owned, borrowed or shared (`T`, `&T`, `Arc<T>`). It waits while 16 KiB of
    /// earlier messages are unsent, that is, for the client's flow control.
    ///
    /// Cancel safe: if it is dropped before it is ready, it has sent nothing.
    ///
    /// # Errors
    /// - RESOURCE_EXHAUSTED if the message exceeds the send limit. Later messages can be sent.
    /// - INTERNAL if the message's own code panics, or its encoding has another length than it
    ///   declares. Nothing of the message is sent, and later messages can be sent.
    /// - The status of the call if it has ended.
    pub async fn send(&mut self, message: impl Borrow<T>) -> Result<(), Status> {
        poll_fn(|cx| self.exchange.poll_send(message.borrow(), true, cx)).await
    }

    /// Sends a message uncompressed, also in a call with compression. Use it for messages that do
    /// not compress well, such as images. Otherwise it is like [`send`](Self::send).
    ///
    /// # Errors
    /// The errors of [`send`](Self::send).
    pub async fn send_uncompressed(&mut self, message: impl Borrow<T>) -> Result<(), Status> {
        poll_fn(|cx| self.exchange.poll_send(message.borrow(), false, cx)).await
    }

    /// Sends messages that are already encoded. They are compressed if the call compresses its
    /// responses.
    ///
    /// If it is dropped before it is ready, it has sent some of the messages, from the first on.
    ///
    /// # Errors
    /// The messages before the failed one have been sent, and those after it have not:
    /// - RESOURCE_EXHAUSTED if a message exceeds the send limit. Later messages can be sent.
    /// - The status of the call if it has ended.
    pub async fn send_encoded(&mut self, messages: &Encoded<T>) -> Result<(), Status> {
        let mut unsent = messages.frames();
        poll_fn(|cx| self.exchange.poll_send_frames(&mut unsent, cx)).await
    }

    /// Waits until all messages have been sent to the client, as its flow control allows. It is for
    /// handlers that prefer to send the latest value later, rather than an old value now. Cancel
    /// safe.
    ///
    /// # Errors
    /// The status of the call if it has ended.
    pub async fn flushed(&mut self) -> Result<(), Status> {
        poll_fn(|cx| self.exchange.poll_unsent(0, cx)).await
    }

    /// Returns the initial metadata. Entries can be added until the headers are sent: with the
    /// first message, by [`flush_headers`](Self::flush_headers), or at the end of the call.
    pub fn metadata_mut(&mut self) -> MetadataMut<'_> {
        MetadataMut::initial(&self.exchange)
    }

    /// Returns the trailing metadata. Entries can be added until the handler returns.
    pub fn trailers_mut(&mut self) -> MetadataMut<'_> {
        MetadataMut::trailing(&self.exchange)
    }

    /// Sends the headers now, for a client that waits for them before the first message.
    pub fn flush_headers(&mut self) {
        self.exchange.flush_headers();
    }
}

impl<T> fmt::Debug for Sink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

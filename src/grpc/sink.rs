use std::borrow::Borrow;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;

use prost::Message;

use super::call::MetadataMut;
use super::exchange::Exchange;
use super::status::Status;

/// Where a handler puts the messages that it streams. The handler's return value ends the call.
///
/// Messages gather while the handler goes on and leave together when it waits for anything, or
/// when 16 KiB have come together; none is held back longer than that.
pub struct Sink<T> {
    exchange: Arc<Exchange>,
    messages: PhantomData<fn(T)>,
}

impl<T: Message> Sink<T> {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange, messages: PhantomData }
    }

    /// Sends a message: owned, borrowed, or shared (`T`, `&T`, `Arc<T>`). Waits while 16 KiB of
    /// earlier messages are unsent, that is for the client's flow control. Cancel safe: dropped
    /// before it is ready, it has sent nothing.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if the message is over the send limit; INTERNAL if its own code panics or
    /// gives another length than that of its encoding; else why the call is over. In the first two
    /// cases nothing of it is sent, and later messages can be.
    pub async fn send(&mut self, message: impl Borrow<T>) -> Result<(), Status> {
        poll_fn(|cx| self.exchange.poll_send(message.borrow(), true, cx)).await
    }

    /// Sends a message that is not worth compressing, such as one that holds an image, plain also
    /// in a call whose messages are compressed. Else like [`send`](Self::send).
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub async fn send_uncompressed(&mut self, message: impl Borrow<T>) -> Result<(), Status> {
        poll_fn(|cx| self.exchange.poll_send(message.borrow(), false, cx)).await
    }

    /// Waits until all that was sent has left for the client, as far as its flow control lets it:
    /// for a handler that would rather send the latest value later than an old one now. Cancel
    /// safe.
    ///
    /// # Errors
    /// Why the call is over.
    pub async fn flushed(&mut self) -> Result<(), Status> {
        poll_fn(|cx| self.exchange.poll_unsent(0, cx)).await
    }

    /// Initial metadata, to be added to until the headers are sent: by the first message, by
    /// [`flush_headers`](Self::flush_headers), or at the end.
    pub fn metadata_mut(&mut self) -> MetadataMut<'_> {
        MetadataMut::initial(&self.exchange)
    }

    /// Trailing metadata, to be added to until the handler returns.
    pub fn trailers_mut(&mut self) -> MetadataMut<'_> {
        MetadataMut::trailing(&self.exchange)
    }

    /// Sends the headers now, for a client that waits for them before the first message exists.
    pub fn flush_headers(&mut self) {
        self.exchange.flush_headers();
    }
}

impl<T> fmt::Debug for Sink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

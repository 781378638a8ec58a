use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use futures_util::Stream;
use prost::Message;
use tokio::task::coop;

use super::exchange::{Exchange, Received};
use super::frame::WholeFrames;
use super::method::UNKNOWN_METHOD;
use super::request::not_protobuf;
use super::status::Status;

/// The messages of a client's stream, in order.
///
/// Dropping it does not end the call: the remaining messages stay unread.
pub struct Streaming<T> {
    exchange: Arc<Exchange>,
    /// Messages that arrived together, to be decoded one by one.
    ready: WholeFrames,
    /// The length of the last message on the wire.
    last_len: usize,
    /// Work that is left before other tasks get their turn.
    slice: u32,
    /// The error that was returned. Every later read returns it again.
    failed: Option<Status>,
    /// The end of this value as a `Stream`.
    ended: bool,
    messages: PhantomData<fn() -> T>,
}

/// The longest encoded message whose memory is reused for the next one, in bytes. So a stream that
/// waits holds little memory after a long message.
const KEPT: usize = 4 * 1024;

/// The longest message that is decoded from a slice, in bytes: that is faster. Its `bytes` fields
/// are copies. Those of a longer message share the memory in which it arrived.
const SHORT: usize = 1024;

/// The work for one unit of tokio's task budget; a short message is 1. A read loop yields after
/// several thousand short messages, or 128 KiB of longer ones: one or two milliseconds.
const SLICE: u32 = 32;

/// The work for a compressed message.
const COMPRESSED: u32 = 4;

/// Bytes of a message that take as much work as a short message, to decode and to check them.
const BYTES_PER_UNIT: usize = 32;

impl<T> Streaming<T> {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        let (ready, messages) = (WholeFrames::default(), PhantomData);
        Self { exchange, ready, last_len: 0, slice: SLICE, failed: None, ended: false, messages }
    }

    /// Whether the last message that was read arrived compressed with the call's
    /// [encoding](crate::Call::request_encoding). `false` before the first message.
    pub fn was_compressed(&self) -> bool {
        self.exchange.compressed()
    }
}

impl<T: Message + Default> Streaming<T> {
    /// A stream of these messages, followed by a half-close, to call a handler in a test.
    pub fn from_messages(messages: impl IntoIterator<Item = T>) -> Self {
        let source = Exchange::detached(&UNKNOWN_METHOD);
        let target = Exchange::detached(&UNKNOWN_METHOD);
        for message in messages {
            source.write(&message).expect("a detached exchange takes every message");
        }
        let mut outbound = source.lock();
        let count = outbound.outbound.buffered();
        let wire = outbound.outbound.split(count);
        drop(outbound);
        let mut state = target.lock();
        state.inbound.receive(wire);
        state.inbound.finish(Ok(()));
        drop(state);
        Self::new(target)
    }

    /// Returns the next message, or `None` after the client's half-close.
    ///
    /// Cancel safe: no message is lost if the future is dropped.
    ///
    /// # Errors
    /// An invalid message or stream; otherwise the status of the ended call. A reset by the client
    /// is CANCELLED, never a clean end. After an error, every later read returns the same error.
    /// The handler should return it.
    pub async fn message(&mut self) -> Result<Option<T>, Status> {
        let mut message = T::default();
        Ok(self.read_into(&mut message).await?.then_some(message))
    }

    /// Reads the next message into `message`; `false` after the client's half-close. Strings and
    /// lists of `message` keep their memory, unless the previous message was longer than 4 KiB.
    /// `message` is cleared before this waits, and stays cleared after an error.
    ///
    /// Cancel safe like [`message`](Self::message).
    ///
    /// # Errors
    /// The errors of [`message`](Self::message).
    pub async fn read_into(&mut self, message: &mut T) -> Result<bool, Status> {
        if self.last_len > KEPT {
            *message = T::default();
            self.last_len = 0;
        } else {
            message.clear();
        }
        Read { messages: self, message, waits: false }.await
    }

    fn poll_read(&mut self, message: &mut T, cx: &mut Context<'_>) -> Poll<Result<bool, Status>> {
        if let Some(status) = &self.failed {
            return Poll::Ready(Err(status.clone()));
        }
        let read = ready!(self.poll_decoded(message, cx));
        if let Err(status) = &read {
            self.ready = WholeFrames::default();
            self.failed = Some(status.clone());
            message.clear();
        }
        Poll::Ready(read)
    }

    fn poll_decoded(
        &mut self,
        message: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Status>> {
        if self.slice == 0 {
            ready!(coop::poll_proceed(cx)).made_progress();
            self.slice = SLICE;
        }
        let exchange = &*self.exchange;
        let mut cost = 1;
        loop {
            let last_len = &mut self.last_len;
            let decoded = if let Some(frame) = self.ready.next_short(SHORT) {
                *last_len = frame.len();
                exchange.show_received(frame);
                Some(message.merge(frame))
            } else {
                self.ready.next(|frame| {
                    *last_len = frame.remaining();
                    exchange.show_received(frame.chunk());
                    message.merge(frame)
                })
            };
            let decoded = match decoded {
                Some(decoded) => decoded,
                None => match ready!(exchange.poll_received(cx))? {
                    Received::Frames(frames) => {
                        self.ready = frames;
                        continue;
                    }
                    Received::Message(payload) => {
                        self.last_len = payload.remaining();
                        cost = COMPRESSED;
                        message.merge(payload)
                    }
                    Received::End => return Poll::Ready(Ok(false)),
                },
            };
            exchange.admit()?;
            exchange.count_received();
            let length = u32::try_from(self.last_len / BYTES_PER_UNIT).unwrap_or(u32::MAX);
            self.slice = self.slice.saturating_sub(cost.saturating_add(length));
            return Poll::Ready(match decoded {
                Ok(()) => Ok(true),
                Err(error) => {
                    let status = not_protobuf(&error);
                    exchange.fail_input(&status);
                    Err(status)
                }
            });
        }
    }
}

/// A future that reads the next message.
struct Read<'a, T> {
    messages: &'a mut Streaming<T>,
    message: &'a mut T,
    waits: bool,
}

impl<T: Message + Default> Future for Read<'_, T> {
    type Output = Result<bool, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let polled = this.messages.poll_read(this.message, cx);
        this.waits = polled.is_pending();
        polled
    }
}

/// A handler that drops the read does not wait for its client any more.
impl<T> Drop for Read<'_, T> {
    fn drop(&mut self) {
        if self.waits {
            self.messages.exchange.stop_waiting();
        }
    }
}

/// Ends after the first error.
impl<T: Message + Default> Stream for Streaming<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut message = T::default();
        let read = ready!(self.poll_read(&mut message, cx));
        self.ended = read.is_err();
        Poll::Ready(read.map(|read| read.then_some(message)).transpose())
    }
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use futures_util::FutureExt;
    use futures_util::future::poll_immediate;

    use super::*;

    #[tokio::test]
    async fn streaming_yields_although_all_messages_are_there() {
        let pending = pending_while_reading(vec![1_u32; 100_000]).await;
        assert!((10..100).contains(&pending), "{pending}");
    }

    #[tokio::test]
    async fn streaming_yields_after_fewer_long_messages() {
        let pending = pending_while_reading(vec!["x".repeat(1024); 2_000]).await;
        assert!((10..100).contains(&pending), "{pending}");
    }

    /// How often the task yields while it reads these messages.
    async fn pending_while_reading<T: Message + Default>(all: Vec<T>) -> u32 {
        let expected = all.len();
        let mut messages = Streaming::from_messages(all);
        let (mut reading, mut pending) = (pin!(messages.count_all()), 0);
        let count = poll_fn(|cx| match reading.as_mut().poll(cx) {
            Poll::Ready(count) => Poll::Ready(count),
            Poll::Pending => {
                pending += 1;
                Poll::Pending
            }
        });
        assert_eq!(count.await, expected);
        pending
    }

    impl<T: Message + Default> Streaming<T> {
        /// Polls once and then awaits, like a handler that waits for two events.
        async fn count_all(&mut self) -> usize {
            let (mut count, mut message) = (0, T::default());
            loop {
                let mut read = pin!(self.read_into(&mut message));
                let there_is_one = match poll_immediate(&mut read).await {
                    Some(read) => read,
                    None => read.await,
                };
                if !there_is_one.unwrap() {
                    return count;
                }
                count += 1;
            }
        }
    }

    #[test]
    fn streaming_read_into_frees_long_messages_before_waiting() {
        let messages = ["x".repeat(KEPT / 2), "x".repeat(1 << 20)];
        for (message, kept) in messages.into_iter().zip([KEPT / 2, 0]) {
            let (client, mut stream) = crate::testing::requests();
            client.send(&message);
            let mut message = String::new();
            assert!(stream.read_into(&mut message).now_or_never().unwrap().unwrap());
            assert!(stream.read_into(&mut message).now_or_never().is_none());
            assert_eq!(message.capacity(), kept);
        }
    }
}

use std::fmt;
use std::marker::PhantomData;

use bytes::{BufMut, BytesMut};
use prost::Message;

use super::frame::{self, FrameError, HEADER_LEN};

/// Encoded messages of the type `M`, for [`Sink::send_encoded`](crate::Sink::send_encoded).
///
/// A message that many calls send, such as an event for all subscribers, is encoded once. Many
/// short messages that are sent together cost much less than one [`send`](crate::Sink::send) for
/// each.
///
/// ```
/// use balafon::{Encoded, Sink, Status};
///
/// async fn publish(event: &String, subscribers: &mut [Sink<String>]) -> Result<(), Status> {
///     let event = Encoded::of(event)?;
///     for subscriber in subscribers {
///         subscriber.send_encoded(&event).await?;
///     }
///     Ok(())
/// }
/// ```
pub struct Encoded<M> {
    /// The messages as uncompressed frames.
    frames: BytesMut,
    len: usize,
    messages: PhantomData<fn(M)>,
}

impl<M> Encoded<M> {
    /// Without messages.
    pub fn new() -> Self {
        Self { frames: BytesMut::new(), len: 0, messages: PhantomData }
    }

    /// Adds a message that is already encoded, without its length. The bytes are not checked: the
    /// client fails to decode what is not an `M`.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] over 4 GiB. Nothing is added.
    pub fn push_bytes(&mut self, message: &[u8]) -> Result<(), FrameError> {
        let length = frame::length_field(message.len())?;
        self.frames.reserve(HEADER_LEN + message.len());
        self.frames.put_u8(0);
        self.frames.put_u32(length);
        self.frames.put_slice(message);
        self.len += 1;
        Ok(())
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no messages.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The length of the messages on the wire in bytes, with the 5 bytes before each.
    pub fn wire_len(&self) -> usize {
        self.frames.len()
    }

    /// Removes the messages, and keeps the memory for others.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.len = 0;
    }

    /// The encoded messages, without their lengths.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        frame::payloads(&self.frames)
    }

    pub(crate) fn frames(&self) -> &[u8] {
        &self.frames
    }
}

impl<M: Message> Encoded<M> {
    /// One message.
    ///
    /// # Errors
    /// The errors of [`push`](Self::push).
    pub fn of(message: &M) -> Result<Self, FrameError> {
        let mut encoded = Self::new();
        encoded.push(message)?;
        Ok(encoded)
    }

    /// Adds a message.
    ///
    /// # Errors
    /// Nothing is added:
    /// - [`FrameError::TooLarge`] over 4 GiB.
    /// - [`FrameError::Unencodable`] if the message's own code panics, or its encoding has another
    ///   length than it declares.
    pub fn push(&mut self, message: &M) -> Result<(), FrameError> {
        frame::encode(&mut self.frames, message, usize::MAX)?;
        self.len += 1;
        Ok(())
    }
}

impl<M> Default for Encoded<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Clone for Encoded<M> {
    fn clone(&self) -> Self {
        Self { frames: self.frames.clone(), len: self.len, messages: PhantomData }
    }
}

/// Leaves out the messages, which may be long or secret.
impl<M> fmt::Debug for Encoded<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn encoded_messages_are_frames_in_a_row() {
        let mut encoded = Encoded::of(&"one".to_owned()).unwrap();
        encoded.push_bytes(b"").unwrap();
        encoded.push(&"three".to_owned()).unwrap();
        assert_eq!(encoded.frames(), b"\0\0\0\0\x05\x0a\x03one\0\0\0\0\0\0\0\0\0\x07\x0a\x05three");
        let messages: Vec<_> = encoded.iter().collect();
        assert_eq!(messages, [&b"\x0a\x03one"[..], b"", b"\x0a\x05three"]);
        assert_eq!((encoded.len(), encoded.wire_len()), (3, 5 + 5 + 5 + 5 + 7));
        encoded.clear();
        assert!(encoded.is_empty() && encoded.iter().next().is_none());
    }
}

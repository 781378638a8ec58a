//! Length-prefixed messages (PROTOCOL-HTTP2, "Length-Prefixed-Message"), sans I/O: bytes in,
//! frames or a typed fault of the peer out.
//!
//! ```text
//!  0        1                                5
//! +--------+--------------------------------+-----------------+
//! | flag   | length, 32 bits, big-endian    | message         |
//! +--------+--------------------------------+-----------------+
//!  0 plain, 1 compressed
//! ```
//!
//! DATA frames of HTTP/2 cut this sequence anywhere, so their boundaries mean nothing here.
//!
//! ```
//! use balafon::grpc::frame::{FrameDecoder, encode};
//! use bytes::{Bytes, BytesMut};
//!
//! let mut wire = BytesMut::new();
//! encode(&mut wire, &"hello".to_string(), usize::MAX)?;
//!
//! let mut decoder = FrameDecoder::new(1024);
//! decoder.push(wire.split_to(3).freeze());
//! assert!(decoder.next_frame()?.is_none());
//! decoder.push(wire.freeze());
//! let frame = decoder.next_frame()?.expect("the message is complete");
//! assert_eq!(frame.payload.into_bytes(), Bytes::from_static(b"\x0a\x05hello"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod payload;

use std::collections::VecDeque;
use std::fmt;

use bytes::buf::Take;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

pub use self::payload::Payload;

/// Chunks of fewer bytes are copied together rather than queued: below this a copy costs less than
/// the memory that a chunk keeps alive.
const SMALL: usize = 1024;

/// The largest payload of a DATA frame, unless the receiver says otherwise (RFC 9113, 4.2).
const DATA_FRAME: usize = 16 * 1024;

/// The flag and the length that precede every message, in bytes.
pub const HEADER_LEN: usize = 5;

/// One message as it stood on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether the payload is compressed with the call's `grpc-encoding`.
    pub compressed: bool,
    /// The message; it shares the memory of the chunks in which it arrived.
    pub payload: Payload,
}

/// What is wrong with a sequence of frames, or with a message that should become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The first byte of a frame was neither 0 nor 1.
    InvalidFlag(u8),
    /// A message is longer than the limit; known from its header, before it is buffered.
    TooLarge {
        /// The length that the header declares, in bytes; unknown for a message that grew over the
        /// limit as it was decompressed.
        length: Option<usize>,
        /// The longest message allowed, in bytes.
        limit: usize,
    },
    /// The input ended inside a frame.
    Truncated,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidFlag(flag) => {
                write!(f, "message with the invalid compression flag {flag}: wanted 0 or 1")
            }
            Self::TooLarge { length: Some(length), limit } => {
                write!(f, "message of {length} bytes is over the limit of {limit}")
            }
            Self::TooLarge { length: None, limit } => {
                write!(f, "message is over the limit of {limit} bytes once decompressed")
            }
            Self::Truncated => f.write_str("the stream ended in the middle of a message"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Uncompressed frames, one after the other.
#[derive(Debug, Clone, Default)]
pub struct WholeFrames(Bytes);

impl WholeFrames {
    /// Gives `read` the payload of the next frame, of which it need not read all; `None` behind the
    /// last.
    pub fn next<R>(&mut self, read: impl FnOnce(Take<&mut Bytes>) -> R) -> Option<R> {
        let (header, _) = self.0.split_first_chunk::<HEADER_LEN>()?;
        let length = length_of(header);
        self.0.advance(HEADER_LEN);
        let behind = self.0.len() - length;
        let result = read((&mut self.0).take(length));
        self.0.advance(self.0.len() - behind);
        Some(result)
    }

    /// Whether there is no frame left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn length_of([_, length @ ..]: &[u8; HEADER_LEN]) -> usize {
    u32::from_be_bytes(*length) as usize
}

/// Cuts chunks of bytes into frames.
///
/// ```text
///            5 bytes                 `length` bytes
///  Header ------------> Payload ---------------------> a frame, Header again
/// ```
///
/// After an error the decoder's state means nothing any more: the stream cannot be
/// resynchronized, and the call is over.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    /// What is read next; empty only if nothing is unread. Apart from `queue` because most calls
    /// have no more than this.
    front: Bytes,
    queue: VecDeque<Bytes>,
    /// Small chunks behind `queue`, copied together: a client that sends bytes one by one must not
    /// cost a queue entry and a piece of a read buffer for each.
    tail: BytesMut,
    /// The length of all three, so that the transport can be held back in O(1).
    unread: usize,
    /// Of the payload being waited for; `None` while waiting for a header.
    header: Option<Header>,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    compressed: bool,
    length: usize,
}

impl FrameDecoder {
    /// A decoder that refuses messages of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let (queue, tail) = (VecDeque::new(), BytesMut::new());
        Self { limit, front: Bytes::new(), queue, tail, unread: 0, header: None }
    }

    /// Adds what arrived. Copies only small chunks, and those only if others wait before them.
    pub fn push(&mut self, chunk: Bytes) {
        self.unread += chunk.len();
        if self.front.is_empty() {
            self.front = chunk;
        } else if chunk.len() < SMALL {
            self.tail.extend_from_slice(&chunk);
        } else {
            if !self.tail.is_empty() {
                self.queue.push_back(self.tail.split().freeze());
            }
            self.queue.push_back(chunk);
        }
    }

    /// Bytes that were pushed and wait to be read, but for those of a message of which more has to
    /// come first.
    pub fn unread(&self) -> usize {
        match self.header {
            Some(header) if self.unread < header.length => 0,
            _ => self.unread,
        }
    }

    /// Bytes of memory that hold what was pushed and has not left in a frame.
    pub(crate) fn held(&self) -> usize {
        self.unread - self.tail.len() + self.tail.capacity()
    }

    /// The next complete frame, or `None` until more bytes are pushed. Memory grows with what was
    /// pushed, never to the declared length at once: five bytes must not claim megabytes.
    ///
    /// # Errors
    /// [`FrameError::InvalidFlag`] and [`FrameError::TooLarge`], as soon as the header shows it.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(header) = self.take_header() else { return Ok(None) };
                *self.header.insert(self.parse_header(header)?)
            }
        };
        if self.unread < header.length {
            return Ok(None);
        }
        self.header = None;
        let payload = self.take(header.length);
        Ok(Some(Frame { compressed: header.compressed, payload }))
    }

    /// Uncompressed frames that lie whole and one after the other in the chunk that is read next, at
    /// once: for a reader that takes them apart by itself. No more than fill a DATA frame of the
    /// default size, and none if there are none; then [`next_frame`](Self::next_frame) knows more.
    pub fn whole_frames(&mut self) -> WholeFrames {
        let mut end = 0;
        while self.header.is_none()
            && end < DATA_FRAME
            && let Some((header, rest)) = self.front[end..].split_first_chunk()
            && let Ok(Header { compressed: false, length }) = self.parse_header(*header)
            && length <= rest.len()
        {
            end += HEADER_LEN + length;
        }
        let bytes = self.front.slice(..end);
        self.skip(end);
        WholeFrames(bytes)
    }

    /// Says that no more bytes will come.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if a frame has begun and is not complete.
    pub fn end(&self) -> Result<(), FrameError> {
        if self.header.is_some() || self.unread > 0 { Err(FrameError::Truncated) } else { Ok(()) }
    }

    /// The first `length` of the unread bytes.
    fn take(&mut self, length: usize) -> Payload {
        let mut payload = Payload::default();
        while payload.remaining() < length {
            let part = self.front.len().min(length - payload.remaining());
            payload.push(self.front.slice(..part));
            self.skip(part);
        }
        payload
    }

    fn parse_header(&self, header: [u8; HEADER_LEN]) -> Result<Header, FrameError> {
        let (flag, length) = (header[0], length_of(&header));
        if flag > 1 {
            return Err(FrameError::InvalidFlag(flag));
        }
        if length > self.limit {
            return Err(FrameError::TooLarge { length: Some(length), limit: self.limit });
        }
        Ok(Header { compressed: flag == 1, length })
    }

    /// Five bytes from the front, across chunks; nothing is taken while there are fewer.
    fn take_header(&mut self) -> Option<[u8; HEADER_LEN]> {
        if self.unread < HEADER_LEN {
            return None;
        }
        let mut header = [0; HEADER_LEN];
        let mut filled = 0;
        while filled < HEADER_LEN {
            let part = self.front.len().min(HEADER_LEN - filled);
            header[filled..filled + part].copy_from_slice(&self.front[..part]);
            filled += part;
            self.skip(part);
        }
        Some(header)
    }

    /// Done with the first `count` bytes of the front.
    fn skip(&mut self, count: usize) {
        self.front.advance(count);
        self.unread -= count;
        if self.front.is_empty() {
            let next = self.queue.pop_front();
            self.front = next.unwrap_or_else(|| self.tail.split().freeze());
        }
    }
}

/// Appends `message` as one uncompressed frame and says how long its payload is.
///
/// # Errors
/// [`FrameError::TooLarge`] over `limit` or over what 32 bits can say; `buffer` is as it was.
pub fn encode(
    buffer: &mut BytesMut,
    message: &impl Message,
    limit: usize,
) -> Result<usize, FrameError> {
    let length = message.encoded_len();
    let limit = limit.min(u32::MAX as usize);
    if length > limit {
        return Err(FrameError::TooLarge { length: Some(length), limit });
    }
    let start = buffer.len();
    buffer.reserve(HEADER_LEN + length);
    buffer.put_u8(0);
    buffer.put_u32(length as u32);
    if length > DATA_FRAME {
        message.encode_raw(buffer);
    } else {
        // Into a slice of the exact size: that is checked and moved on more cheaply than a buffer
        // that may grow with every field. Only long ones are not worth filling with zeros first.
        buffer.resize(start + HEADER_LEN + length, 0);
        message.encode_raw(&mut &mut buffer[start + HEADER_LEN..]);
    }
    Ok(length)
}

/// Appends a payload that is compressed already.
///
/// # Errors
/// [`FrameError::TooLarge`] over what 32 bits can say; `buffer` is as it was.
pub fn put_compressed(buffer: &mut BytesMut, payload: &[u8]) -> Result<(), FrameError> {
    let (length, limit) = (Some(payload.len()), u32::MAX as usize);
    let header =
        u32::try_from(payload.len()).map_err(|_| FrameError::TooLarge { length, limit })?;
    buffer.reserve(HEADER_LEN + payload.len());
    buffer.put_u8(1);
    buffer.put_u32(header);
    buffer.put_slice(payload);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flag: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![flag];
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn data_boundaries_are_not_message_boundaries() {
        let payloads: [&[u8]; 4] = [b"", b"a", &[7; 300], b"last"];
        let wire: Vec<u8> = payloads.iter().flat_map(|payload| frame(0, payload)).collect();
        for step in 1..=wire.len() {
            let mut decoder = FrameDecoder::new(1024);
            let mut seen = Vec::new();
            for chunk in wire.chunks(step) {
                decoder.push(Bytes::copy_from_slice(chunk));
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame.payload.into_bytes());
                }
            }
            assert_eq!(seen, payloads, "in chunks of {step}");
            assert_eq!(decoder.end(), Ok(()));
        }
    }

    #[test]
    fn a_message_in_one_chunk_is_not_copied() {
        let chunk = Bytes::from(frame(0, b"payload"));
        let expected = chunk[HEADER_LEN..].as_ptr();
        let mut decoder = FrameDecoder::new(1024);
        decoder.push(chunk);
        assert_eq!(decoder.next_frame().unwrap().unwrap().payload.into_bytes().as_ptr(), expected);
    }

    #[test]
    fn the_limit_is_decided_from_the_prefix() {
        let mut decoder = FrameDecoder::new(9);
        decoder.push(Bytes::from_static(&[0, 0, 0, 0, 10]));
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLarge { length: Some(10), limit: 9 }));
    }

    #[test]
    fn a_message_exactly_at_the_limit_passes() {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(frame(1, &[3; 10]).into());
        let frame = decoder.next_frame().unwrap().unwrap();
        assert!(frame.compressed);
        assert_eq!(frame.payload.remaining(), 10);
    }

    #[test]
    fn a_flag_above_one_is_an_error() {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(Bytes::from_static(&[2, 0, 0, 0, 0]));
        assert_eq!(decoder.next_frame(), Err(FrameError::InvalidFlag(2)));
    }

    #[test]
    fn an_end_inside_a_frame_is_an_error() {
        let wire = frame(0, b"abc");
        for cut in 1..wire.len() {
            let mut decoder = FrameDecoder::new(10);
            decoder.push(Bytes::copy_from_slice(&wire[..cut]));
            assert_eq!(decoder.next_frame(), Ok(None));
            assert_eq!(decoder.end(), Err(FrameError::Truncated), "cut at {cut}");
        }
    }

    #[test]
    fn a_declared_length_claims_no_memory() {
        let mut decoder = FrameDecoder::new(1 << 30);
        decoder.push(Bytes::from_static(&[0, 0x3f, 0xff, 0xff, 0xff, 1, 2, 3]));
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.held() < 1024);
    }

    #[test]
    fn a_message_that_grows_holds_at_most_twice_its_bytes() {
        let wire = frame(0, &[1; 100_000]);
        let mut decoder = FrameDecoder::new(1 << 20);
        let mut received = 0;
        for chunk in wire.chunks(700) {
            received += chunk.len();
            decoder.push(Bytes::copy_from_slice(chunk));
            let complete = decoder.next_frame().unwrap().is_some();
            assert_eq!(complete, received == wire.len());
            let held = decoder.held();
            assert!(held <= 2 * received, "{held} bytes for {received}");
        }
    }

    #[test]
    fn encoding_over_the_limit_leaves_the_buffer_as_it_was() {
        let mut buffer = BytesMut::from(&b"before"[..]);
        let error = encode(&mut buffer, &"x".repeat(100), 50).unwrap_err();
        assert_eq!(error, FrameError::TooLarge { length: Some(102), limit: 50 });
        assert_eq!(&buffer[..], b"before");
    }
}

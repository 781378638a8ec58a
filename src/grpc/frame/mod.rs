//! Length-prefixed messages (PROTOCOL-HTTP2, "Length-Prefixed-Message"), sans I/O. The input is
//! bytes. The output is frames, or a typed error of the peer.
//!
//! ```text
//!  0        1                                5
//! +--------+--------------------------------+-----------------+
//! | flag   | length, 32 bits, big-endian    | message         |
//! +--------+--------------------------------+-----------------+
//!  0 plain, 1 compressed
//! ```
//!
//! HTTP/2 may split this sequence into DATA frames at any byte, so their boundaries mean nothing
//! here.
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

mod chunks;
mod decoder;
mod payload;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{BufMut, BytesMut};
use prost::Message;

pub use self::decoder::{FrameDecoder, WholeFrames};
pub use self::payload::Payload;

/// The largest payload of a DATA frame, unless the receiver's settings allow more (RFC 9113, 4.2).
const DATA_FRAME: usize = 16 * 1024;

/// The most memory, in bytes, that is reserved for the length that a message declares. Beyond it
/// the buffer grows with the encoded bytes. A wrong length must not end the process.
const RESERVED: usize = 64 * 1024 * 1024;

/// The length of the header before every message, in bytes: the flag and the message's length.
pub const HEADER_LEN: usize = 5;

/// One message in its form on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// Whether the payload is compressed with the call's `grpc-encoding`.
    pub compressed: bool,
    /// The message. It shares the memory of the chunks in which it arrived.
    pub payload: Payload,
}

/// An invalid sequence of frames, or a message that cannot be encoded as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The first byte of a frame was neither 0 nor 1.
    InvalidFlag(u8),
    /// A message exceeds the limit. A decoder detects it in the header, before it buffers the
    /// message.
    TooLarge {
        /// The length that the header declares, in bytes. `None` for a message that exceeded the
        /// limit during decompression.
        length: Option<usize>,
        /// The longest message allowed, in bytes.
        limit: usize,
    },
    /// The input ended inside a frame.
    Truncated,
    /// A message to be sent has code of its own that panicked, or its encoding has another length
    /// than it declares.
    Unencodable,
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
            Self::Unencodable => f.write_str("the message cannot be encoded"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Appends `message` as one uncompressed frame, and returns the length of its payload.
///
/// # Errors
/// [`FrameError::TooLarge`] over `limit` or the 32 bits of the length field;
/// [`FrameError::Unencodable`]. `buffer` stays unchanged.
pub fn encode(
    buffer: &mut BytesMut,
    message: &impl Message,
    limit: usize,
) -> Result<usize, FrameError> {
    let start = buffer.len();
    let encoded = guarded(|| append(buffer, message, limit));
    if encoded.is_err() {
        buffer.truncate(start);
    }
    encoded
}

fn append(
    buffer: &mut BytesMut,
    message: &impl Message,
    limit: usize,
) -> Result<usize, FrameError> {
    let length = message.encoded_len();
    let limit = limit.min(u32::MAX as usize);
    if length > limit {
        return Err(FrameError::TooLarge { length: Some(length), limit });
    }
    let payload = buffer.len() + HEADER_LEN;
    buffer.reserve(HEADER_LEN + length.min(RESERVED));
    buffer.put_u8(0);
    buffer.put_u32(length as u32);
    let whole = if length > DATA_FRAME {
        message.encode_raw(buffer);
        buffer.len() == payload + length
    } else {
        // A slice of the exact size is cheaper to check and to advance than a buffer that may grow
        // with every field. Longer messages are not worth filling with zeros first.
        buffer.resize(payload + length, 0);
        let mut left = &mut buffer[payload..];
        message.encode_raw(&mut left);
        left.is_empty()
    };
    if whole { Ok(length) } else { Err(FrameError::Unencodable) }
}

/// Returns the length that `message` declares for its encoding.
///
/// # Errors
/// [`FrameError::Unencodable`].
pub(crate) fn encoded_len(message: &impl Message) -> Result<usize, FrameError> {
    guarded(|| Ok(message.encoded_len()))
}

/// Runs a message's own code. A panic ends only its own call, and the shared state stays
/// consistent.
fn guarded<R>(code: impl FnOnce() -> Result<R, FrameError>) -> Result<R, FrameError> {
    catch_unwind(AssertUnwindSafe(code)).unwrap_or(Err(FrameError::Unencodable))
}

/// Appends a payload that is already compressed.
///
/// # Errors
/// [`FrameError::TooLarge`] over the 32 bits of the length field. `buffer` stays unchanged.
pub fn put_compressed(buffer: &mut BytesMut, payload: &[u8]) -> Result<(), FrameError> {
    let length = length_field(payload.len())?;
    buffer.reserve(HEADER_LEN + payload.len());
    buffer.put_u8(1);
    buffer.put_u32(length);
    buffer.put_slice(payload);
    Ok(())
}

/// Returns the length field of a payload.
///
/// # Errors
/// [`FrameError::TooLarge`] over its 32 bits.
pub(crate) fn length_field(length: usize) -> Result<u32, FrameError> {
    let limit = u32::MAX as usize;
    u32::try_from(length).map_err(|_| FrameError::TooLarge { length: Some(length), limit })
}

/// Returns the payload of the first of `frames`, and the frames after it. `None` if the first frame
/// is not whole.
pub(crate) fn split_first(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = frames.split_first_chunk()?;
    rest.split_at_checked(length_of(header))
}

/// Returns the payloads of `frames`, all of which are whole.
pub(crate) fn payloads(mut frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (payload, rest) = split_first(frames)?;
        frames = rest;
        Some(payload)
    })
}

fn length_of([_, length @ ..]: &[u8; HEADER_LEN]) -> usize {
    u32::from_be_bytes(*length) as usize
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use prost::DecodeError;
    use prost::encoding::{DecodeContext, WireType};

    use super::*;

    /// A message that declares `length` and encodes `zeros` bytes.
    #[derive(Debug)]
    struct Zeros {
        length: usize,
        zeros: usize,
        panics: bool,
    }

    impl Message for Zeros {
        fn encode_raw(&self, buffer: &mut impl BufMut) {
            buffer.put_bytes(0, self.zeros);
            assert!(!self.panics, "as asked");
        }

        fn encoded_len(&self) -> usize {
            self.length
        }

        fn merge_field(
            &mut self,
            _: u32,
            _: WireType,
            _: &mut impl Buf,
            _: DecodeContext,
        ) -> Result<(), DecodeError> {
            unreachable!("it is not decoded")
        }

        fn clear(&mut self) {}
    }

    #[test]
    fn encode_with_a_wrong_length_restores_the_buffer() {
        // Messages up to a DATA frame are encoded differently from longer ones.
        for length in [0, 1, DATA_FRAME - 1, DATA_FRAME, DATA_FRAME + 1, 100_000] {
            for zeros in [0, length.saturating_sub(1), length, length + 1, 100_001] {
                for panics in [false, true] {
                    let mut buffer = BytesMut::from(&b"before"[..]);
                    let encoded = encode(&mut buffer, &Zeros { length, zeros, panics }, usize::MAX);
                    if zeros == length && !panics {
                        assert_eq!(encoded, Ok(length));
                        assert_eq!(buffer.len(), b"before".len() + HEADER_LEN + length);
                    } else {
                        assert_eq!(encoded, Err(FrameError::Unencodable), "{length}, {zeros}");
                        assert_eq!(&buffer[..], b"before");
                    }
                }
            }
        }
    }

    #[test]
    fn encode_reserves_little_memory_for_a_declared_length() {
        let mut buffer = BytesMut::new();
        let message = Zeros { length: u32::MAX as usize, zeros: 1, panics: false };
        assert_eq!(encode(&mut buffer, &message, usize::MAX), Err(FrameError::Unencodable));
        assert!(buffer.capacity() <= 2 * RESERVED, "{}", buffer.capacity());
        assert!(buffer.capacity() >= 64 << 20, "{}", buffer.capacity());
    }

    #[test]
    fn encode_writes_flag_length_and_message() {
        let mut buffer = BytesMut::new();
        assert_eq!(encode(&mut buffer, &"x".repeat(300), 303), Ok(303));
        put_compressed(&mut buffer, &[7; 258]).unwrap();
        assert_eq!(&buffer[..8], [0, 0, 0, 1, 47, 10, 0xac, 2]);
        assert_eq!(&buffer[8..308], [b'x'; 300]);
        assert_eq!(&buffer[308..313], [1, 0, 0, 1, 2]);
        assert_eq!(&buffer[313..], [7; 258]);
    }

    #[test]
    fn encode_over_the_limit_restores_the_buffer() {
        let mut buffer = BytesMut::from(&b"before"[..]);
        let error = encode(&mut buffer, &"x".repeat(100), 50).unwrap_err();
        assert_eq!(error, FrameError::TooLarge { length: Some(102), limit: 50 });
        assert_eq!(&buffer[..], b"before");
    }

    #[test]
    fn encode_reserves_only_the_frame() {
        let mut buffers = [BytesMut::new(), BytesMut::new()];
        put_compressed(&mut buffers[0], &[7; 10_000]).unwrap();
        encode(&mut buffers[1], &"x".repeat(10_000), usize::MAX).unwrap();
        for buffer in buffers {
            assert!(buffer.capacity() < 11_000, "{}", buffer.capacity());
        }
    }

    #[test]
    fn encoded_len_is_the_declared_length() {
        for length in [0, 1, 2, 300] {
            assert_eq!(encoded_len(&Zeros { length, zeros: 0, panics: false }), Ok(length));
        }
    }

    #[test]
    fn frame_error_names_what_is_accepted() {
        let (length, limit) = (Some(12), 9);
        for (error, text) in [
            (FrameError::InvalidFlag(7), "flag 7: wanted 0 or 1"),
            (FrameError::TooLarge { length, limit }, "12 bytes is over the limit of 9"),
            (FrameError::TooLarge { length: None, limit }, "limit of 9 bytes once decompressed"),
            (FrameError::Truncated, "ended in the middle of a message"),
            (FrameError::Unencodable, "cannot be encoded"),
        ] {
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn payloads_are_split_by_their_headers() {
        let frames = [0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 8, 9];
        assert_eq!(payloads(&frames).collect::<Vec<_>>(), [&[7][..], &[], &[8, 9]]);
        assert_eq!(split_first(&frames), Some((&[7][..], &frames[6..])));
        for cut in 0..6 {
            assert_eq!(split_first(&frames[..cut]), None);
        }
    }
}

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// The bytes of a message, in the pieces in which they arrived. A long message is decoded from the
/// pieces, without a copy into one buffer.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    /// The piece that is read next; empty only if nothing is left.
    front: Bytes,
    rest: VecDeque<Bytes>,
    remaining: usize,
}

impl Payload {
    /// Adds a piece behind the others.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.remaining += piece.len();
        if self.front.is_empty() {
            self.front = piece;
        } else {
            self.rest.push_back(piece);
        }
    }

    /// Returns the remaining bytes in one piece. It copies only if they are in several.
    pub fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() {
            return self.front;
        }
        let mut bytes = BytesMut::with_capacity(self.remaining);
        bytes.extend_from_slice(&self.front);
        self.rest.iter().for_each(|piece| bytes.extend_from_slice(piece));
        bytes.freeze()
    }
}

/// Payloads are equal if their bytes are, in any pieces.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.clone().into_bytes() == other.clone().into_bytes()
    }
}

impl Eq for Payload {}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self { remaining: bytes.len(), front: bytes, rest: VecDeque::new() }
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        &self.front
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advanced past the end");
        self.remaining -= count;
        while count > self.front.len() {
            count -= self.front.len();
            self.front = self.rest.pop_front().unwrap_or_default();
        }
        self.front.advance(count);
        if self.front.is_empty() {
            self.front = self.rest.pop_front().unwrap_or_default();
        }
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        assert!(count <= self.remaining, "copied past the end");
        if count <= self.front.len() {
            let bytes = self.front.slice(..count);
            self.advance(count);
            return bytes;
        }
        let mut bytes = BytesMut::with_capacity(count);
        while bytes.len() < count {
            let part = self.front.len().min(count - bytes.len());
            bytes.extend_from_slice(&self.front[..part]);
            self.advance(part);
        }
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> Payload {
        let mut payload = Payload::default();
        ["abc", "d", "efgh"].into_iter().for_each(|piece| payload.push(Bytes::from(piece)));
        payload
    }

    #[test]
    #[should_panic(expected = "past the end")]
    fn payload_copy_past_the_end_panics() {
        payload().copy_to_bytes(9);
    }

    #[test]
    #[should_panic(expected = "past the end")]
    fn payload_advance_past_the_end_panics() {
        payload().advance(9);
    }

    #[test]
    fn payload_in_pieces_reads_like_one() {
        for step in 1..=8 {
            let (mut payload, mut read) = (payload(), Vec::new());
            while payload.has_remaining() {
                let count = step.min(payload.remaining());
                let bytes = payload.copy_to_bytes(count);
                assert_eq!(bytes.len(), count, "in steps of {step}");
                read.extend_from_slice(&bytes);
            }
            assert_eq!(read, b"abcdefgh", "in steps of {step}");
        }
        assert_eq!(payload().into_bytes(), "abcdefgh");
        for count in 0..=8 {
            let mut payload = payload();
            payload.advance(count);
            assert_eq!(payload.into_bytes(), "abcdefgh"[count..]);
        }
    }

    #[test]
    fn payload_equality_ignores_the_pieces() {
        assert_eq!(payload(), Payload::from(Bytes::from("abcdefgh")));
        assert_ne!(payload(), Payload::from(Bytes::from("abcdefgx")));
        assert_ne!(payload(), Payload::default());
    }

    #[test]
    fn payload_chunks_are_the_pieces() {
        let (mut payload, mut pieces) = (payload(), Vec::new());
        while payload.has_remaining() {
            let piece = Bytes::copy_from_slice(payload.chunk());
            payload.advance(piece.len());
            pieces.push(piece);
        }
        assert_eq!(pieces, ["abc", "d", "efgh"]);
        assert_eq!(payload.chunk(), b"");
    }
}

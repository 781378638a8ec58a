use std::collections::VecDeque;

use bytes::Bytes;

/// Parts of at least this many bytes become chunks of their own. Smaller parts are joined.
const OWN_CHUNK: usize = 1024;

/// The longest chunk of joined parts, in bytes.
const JOINED: usize = 16 * 1024;

/// The received data of a stream that its call has not read. Each chunk has the memory that its
/// bytes need, and not more than twice of that if it was joined.
#[derive(Debug, Default)]
pub(super) struct Unread {
    chunks: VecDeque<Bytes>,
    /// The last chunk, while parts are joined to it.
    joined: Vec<u8>,
}

impl Unread {
    /// The number of bytes.
    pub(super) fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum::<usize>() + self.joined.len()
    }

    pub(super) fn append(&mut self, part: &[u8]) {
        if part.len() >= OWN_CHUNK {
            self.close_joined();
            self.chunks.push_back(Bytes::copy_from_slice(part));
            return;
        }
        if self.joined.len() + part.len() > JOINED {
            self.close_joined();
        }
        if self.joined.is_empty() {
            self.joined.reserve_exact(part.len());
        }
        self.joined.extend_from_slice(part);
    }

    /// Removes and returns the next chunk.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Some(chunk);
        }
        (!self.joined.is_empty()).then(|| std::mem::take(&mut self.joined).into())
    }

    fn close_joined(&mut self) {
        if !self.joined.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.joined).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_data_keeps_its_order_in_few_chunks() {
        let mut unread = Unread::default();
        let parts: Vec<Vec<u8>> = [3, 5, 2000, 1, 900, 900, 16_384, 7]
            .iter()
            .map(|length| vec![*length as u8; *length])
            .collect();
        parts.iter().for_each(|part| unread.append(part));
        assert_eq!(unread.len(), 20_200);
        let chunks: Vec<Bytes> = std::iter::from_fn(|| unread.take()).collect();
        assert_eq!(chunks.iter().map(Bytes::len).collect::<Vec<_>>(), [8, 2000, 1801, 16_384, 7]);
        assert_eq!(chunks.concat(), parts.concat());
    }

    #[test]
    fn unread_data_is_joined_up_to_a_limit() {
        let mut unread = Unread::default();
        (0..100).for_each(|_| unread.append(&[1; 1000]));
        while let Some(chunk) = unread.take() {
            assert!(chunk.len() <= JOINED);
        }
    }
}

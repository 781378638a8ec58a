use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::Payload;

/// The minimum size of a chunk that is queued as it is, in bytes. Shorter chunks are copied
/// together: h2 slices them out of its read buffer, and each slice keeps the whole read buffer
/// alive.
const LONG: usize = 8 * 1024;

/// The read size of h2: a full DATA frame, or two at most. So the memory behind a long chunk is at
/// most twice the memory that is counted for it.
const READ_BUFFER: usize = 16 * 1024;

/// The maximum size of copied short chunks, in bytes.
const COPIED: usize = 32 * 1024;

/// Spare memory that is not worth a copy, in bytes.
const NEGLIGIBLE: usize = 1024;

/// Received and unread bytes, with the memory that holds them.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// The chunk that is read next; empty only if nothing is unread. Separate from `queue`, because
    /// most calls have only one chunk.
    front: Chunk,
    queue: VecDeque<Chunk>,
    /// Short chunks after `queue`, copied together. A client that sends single bytes must not cost
    /// a queue entry and a part of a read buffer for each.
    tail: BytesMut,
    /// The length of all three, so that flow control can check it in O(1).
    len: usize,
    /// The memory of the chunks in `queue`, in bytes.
    queued: usize,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Bytes,
    /// The memory that is freed with `bytes`.
    memory: usize,
}

impl Chunks {
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        if self.front.bytes.is_empty() {
            // Most chunks are read before they wait. If one waits, `compact` copies it.
            let memory = bytes.len().max(READ_BUFFER);
            self.front = Chunk { bytes, memory };
        } else if bytes.len() < LONG {
            if self.tail.len() + bytes.len() > COPIED {
                self.queue_tail();
            }
            self.tail.extend_from_slice(&bytes);
        } else {
            self.queue_tail();
            let memory = bytes.len().max(READ_BUFFER);
            self.queue_back(Chunk { bytes, memory });
        }
    }

    /// Returns the number of unread bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the memory of the unread bytes.
    pub(super) fn memory(&self) -> usize {
        self.front.memory + self.queued + self.tail.capacity()
    }

    /// Copies the front chunk if that frees more memory than it costs. A chunk is copied again only
    /// after its rest has halved. So all copies together are at most as long as the chunk.
    pub(super) fn compact(&mut self) {
        let Chunk { bytes, memory } = &mut self.front;
        if *memory > 2 * bytes.len() + NEGLIGIBLE {
            *bytes = Bytes::copy_from_slice(bytes);
            *memory = bytes.len();
        }
    }

    /// Returns the chunk that is read next; empty only if nothing is unread.
    pub(super) fn front(&self) -> &Bytes {
        &self.front.bytes
    }

    /// Removes and returns the next `N` bytes, across chunks. Returns `None` and removes nothing if
    /// there are fewer.
    pub(super) fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        if self.len < N {
            return None;
        }
        let mut array = [0; N];
        let mut filled = 0;
        while filled < N {
            let part = self.front.bytes.len().min(N - filled);
            array[filled..filled + part].copy_from_slice(&self.front.bytes[..part]);
            filled += part;
            self.skip(part);
        }
        Some(array)
    }

    /// Removes and returns the next `count` bytes. At least `count` bytes must be unread.
    pub(super) fn take(&mut self, count: usize) -> Payload {
        let mut payload = Payload::default();
        let mut left = count;
        while left > 0 {
            let part = self.front.bytes.len().min(left);
            payload.push(self.front.bytes.slice(..part));
            left -= part;
            self.skip(part);
        }
        payload
    }

    /// Removes the first `count` bytes of the front chunk.
    pub(super) fn skip(&mut self, count: usize) {
        self.front.bytes.advance(count);
        self.len -= count;
        if self.front.bytes.is_empty() {
            self.front = self.next_chunk();
        }
    }

    fn next_chunk(&mut self) -> Chunk {
        if self.queue.is_empty() {
            self.queue_tail();
        }
        let next = self.queue.pop_front().unwrap_or_default();
        self.queued -= next.memory;
        next
    }

    fn queue_tail(&mut self) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            let memory = tail.capacity();
            self.queue_back(Chunk { bytes: tail.freeze(), memory });
        }
    }

    fn queue_back(&mut self, chunk: Chunk) {
        self.queued += chunk.memory;
        self.queue.push_back(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slice of a large buffer, as h2 returns it.
    fn piece(len: usize) -> Bytes {
        Bytes::from(vec![7; 2 * READ_BUFFER]).slice(..len)
    }

    #[test]
    fn chunks_release_the_read_buffers_of_short_pieces() {
        let mut chunks = Chunks::default();
        for count in 1..=1_000 {
            chunks.push(piece(LONG - 1));
            chunks.compact();
            let (held, received) = (chunks.memory(), count * (LONG - 1));
            assert!(held <= 2 * received + COPIED, "{held} bytes for {received}");
        }
    }

    #[test]
    fn chunks_hold_little_more_than_the_unread_rest() {
        for rest in [0, 1, 100, 5_000] {
            let mut chunks = Chunks::default();
            for _ in 0..50 {
                chunks.push(piece(LONG));
            }
            (0..100).for_each(|_| chunks.push(piece(300)));
            let count = chunks.len() - rest;
            assert_eq!(chunks.take(count).remaining(), count);
            chunks.compact();
            assert_eq!(chunks.len(), rest);
            assert!(
                chunks.memory() <= 2 * rest + NEGLIGIBLE + COPIED,
                "{rest}: {}",
                chunks.memory()
            );
        }
    }

    #[test]
    fn chunks_hold_no_memory_when_empty() {
        let mut chunks = Chunks::default();
        for len in [1, LONG, READ_BUFFER, 3, LONG, 700] {
            chunks.push(piece(len));
        }
        let count = chunks.len();
        drop(chunks.take(count));
        assert_eq!((chunks.len(), chunks.memory()), (0, 0));
    }

    #[test]
    fn chunks_copy_pieces_shorter_than_8_kib() {
        let mut chunks = Chunks::default();
        chunks.push(piece(1));
        chunks.push(piece(8_192));
        assert_eq!((chunks.queue.len(), chunks.tail.len()), (1, 0));
        assert_eq!(chunks.memory(), 2 * 16_384, "two read buffers");
        chunks.push(piece(8_191));
        assert_eq!((chunks.queue.len(), chunks.tail.len()), (1, 8_191));
        let copied = chunks.memory() - 2 * 16_384;
        assert!((8_191..16_384).contains(&copied), "{copied}");
    }

    #[test]
    fn chunks_copy_at_most_32_kib_together() {
        let mut chunks = Chunks::default();
        chunks.push(piece(1));
        (0..32).for_each(|_| chunks.push(piece(1_024)));
        assert_eq!((chunks.queue.len(), chunks.tail.len()), (0, 32_768));
        chunks.push(piece(1_024));
        assert_eq!((chunks.queue.len(), chunks.tail.len()), (1, 1_024));
    }

    #[test]
    fn chunks_compact_only_if_half_the_memory_is_spare() {
        for (len, memory) in [(7_680, 16_384), (7_679, 7_679), (0, 0)] {
            let mut chunks = Chunks::default();
            chunks.push(piece(len));
            chunks.compact();
            assert_eq!(chunks.memory(), memory, "{len} unread bytes");
        }
    }

    #[test]
    fn chunks_take_arrays_across_pieces() {
        for step in 1..=5 {
            let mut chunks = Chunks::default();
            b"abcde".chunks(step).for_each(|part| chunks.push(Bytes::copy_from_slice(part)));
            assert_eq!(chunks.take_array(), Some(*b"ab"), "in pieces of {step}");
            assert_eq!(chunks.front().first(), Some(&b'c'));
            assert_eq!(chunks.take_array::<4>(), None);
            assert_eq!(chunks.take_array(), Some(*b"cde"));
            assert_eq!((chunks.take_array::<1>(), chunks.len()), (None, 0));
        }
    }
}

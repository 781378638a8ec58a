//! Compressed messages that no client would send.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

/// The server's default of `--max-receive-message`.
pub(crate) const LARGEST: usize = 4 << 20;

pub(crate) fn compress(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    let best = Compression::best();
    match encoding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), best);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), best);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::bulk::compress(bytes, 19).unwrap(),
        "identity" => bytes.to_vec(),
        other => panic!("{other} is no encoding"),
    }
}

/// As many of these pieces as a message may have.
fn full_of(head: &[u8], piece: &[u8], tail: &[u8]) -> Vec<u8> {
    let count = (LARGEST - head.len() - tail.len()) / piece.len();
    [head, &piece.repeat(count), tail].concat()
}

/// Empty gzip members (RFC 1952, 2.2), 20 bytes each.
pub(crate) fn empty_members() -> Vec<u8> {
    full_of(&[], &compress("gzip", &[]), &[])
}

/// The head of a zlib stream (RFC 1950, 2.2), and the end of an empty one: a last block, Adler-32.
const ZLIB: [u8; 2] = [0x78, 0x9c];
const ZLIB_END: [u8; 6] = [0x03, 0x00, 0, 0, 0, 1];

/// Empty stored blocks (RFC 1951, 3.2.4), 5 bytes each.
pub(crate) fn stored_blocks() -> Vec<u8> {
    full_of(&ZLIB, &[0x00, 0x00, 0x00, 0xff, 0xff], &ZLIB_END)
}

/// Empty blocks with fixed codes (RFC 1951, 3.2.6), 10 bits each.
pub(crate) fn fixed_blocks() -> Vec<u8> {
    let mut bits = Bits::default();
    for _ in 0..4 {
        bits.put(0b010, 3);
        bits.put(0, 7);
    }
    full_of(&ZLIB, &bits.bytes, &ZLIB_END)
}

/// Empty blocks, each with codes of its own (RFC 1951, 3.2.7), 12 bytes each.
pub(crate) fn dynamic_blocks() -> Vec<u8> {
    let mut bits = Bits::default();
    // One block ends within a byte; eight of them end at a byte.
    for _ in 0..8 {
        bits.put(0b100, 3);
        // 257 codes of literals and lengths, 1 of distances; 18 code lengths for them.
        bits.put(0, 5);
        bits.put(0, 5);
        bits.put(14, 4);
        // In the order 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1: codes of one bit for 18 and 1.
        for at in 0..18 {
            bits.put(u32::from(at == 2 || at == 17), 3);
        }
        // Symbol 1 has the code 0, symbol 18 the code 1: lengths 1, 255 zeros, 1, and 1.
        bits.put(0, 1);
        bits.put(1, 1);
        bits.put(138 - 11, 7);
        bits.put(1, 1);
        bits.put(117 - 11, 7);
        bits.put(0, 1);
        bits.put(0, 1);
        // The end of the block is the second of the two codes.
        bits.put(1, 1);
    }
    full_of(&ZLIB, &bits.bytes, &ZLIB_END)
}

/// Bits from the lowest of each byte on (RFC 1951, 3.1.1).
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn put(&mut self, value: u32, count: usize) {
        for at in 0..count {
            if self.count % 8 == 0 {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> at & 1) as u8) << (self.count % 8);
            self.count += 1;
        }
    }
}

/// A zstd frame without content size (RFC 8878, 3.1.1): magic number, descriptor, window of 8 MiB.
const ZSTD: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (23 - 10) << 3];

/// The last block, raw and empty.
const ZSTD_END: [u8; 3] = [1, 0, 0];

/// Empty raw blocks, 3 bytes each.
pub(crate) fn zstd_empty_blocks() -> Vec<u8> {
    full_of(&ZSTD, &[0, 0, 0], &ZSTD_END)
}

/// Blocks of one byte that is repeated once, 4 bytes each.
pub(crate) fn zstd_rle_blocks() -> Vec<u8> {
    full_of(&ZSTD, &[0b010 | 1 << 3, 0, 0, b'a'], &ZSTD_END)
}

/// Whole empty frames, 9 bytes each.
pub(crate) fn zstd_empty_frames() -> Vec<u8> {
    full_of(&[], &[&ZSTD[..], &ZSTD_END].concat(), &[])
}

/// Skippable frames without content, 8 bytes each.
pub(crate) fn zstd_skippable_frames() -> Vec<u8> {
    full_of(&[], &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], &[])
}

/// A frame without a content size, with a window of 8 MiB and blocks of one repeated byte: 128 KiB,
/// 32 times.
pub(crate) fn zstd_wide_window() -> Vec<u8> {
    let block: u32 = 0b010 | (128 << 10) << 3;
    let mut frame = ZSTD.to_vec();
    for _ in 0..31 {
        frame.extend_from_slice(&block.to_le_bytes()[..3]);
        frame.push(b'a');
    }
    frame.extend_from_slice(&ZSTD_END);
    frame
}

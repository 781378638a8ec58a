//! Decompression in slices, sans I/O: a few bytes may stand for megabytes, or for a second of work,
//! and the other calls of a worker must not wait for that.

use std::io::{self, BufRead, Read};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{FrameError, Payload};
use super::status::Status;

/// The least room for output, in bytes.
const OUTPUT: usize = 16 * 1024;

/// Input that is worked off at a time, in bytes: at first, and while it brings as much as itself.
/// The slowest there is, empty blocks of deflate, takes two microseconds a byte.
const INPUT: (usize, usize) = (128, 1024);

/// What a nanosecond costs in which input brings next to nothing, and a byte of output beyond
/// `FREE_RATIO`: about as much as they take.
pub(crate) type Cost = usize;

/// A message may inflate to this many times its length at no cost. Text and protobuf seldom reach
/// ten; beyond a hundred is next to nothing but zeros, and bombs.
pub(crate) const FREE_RATIO: usize = 32;

/// What any message may cost: heads and ends of formats bring nothing.
const FREE_COST: Cost = 20_000;

/// The most that a byte of barren input is taken for, whatever the clock says: it goes on while
/// another process has the core.
const BARREN_MOST: Cost = 3_000;

/// A decompressor of one frame or member of its format, over the bytes of a message.
pub(crate) trait Decompressor: Read + Send {
    fn gate(&mut self) -> &mut Gate;
}

#[cfg(feature = "gzip")]
impl Decompressor for flate2::bufread::GzDecoder<Gate> {
    fn gate(&mut self) -> &mut Gate {
        self.get_mut()
    }
}

#[cfg(feature = "deflate")]
impl Decompressor for flate2::bufread::ZlibDecoder<Gate> {
    fn gate(&mut self) -> &mut Gate {
        self.get_mut()
    }
}

/// A message while it is decompressed.
pub(crate) struct Inflater {
    source: Box<dyn Decompressor>,
    name: &'static str,
    /// Bytes that the decompressor takes for itself.
    context: usize,
    /// The message as far as it is known, and room for more.
    output: BytesMut,
    filled: usize,
    limit: usize,
    compressed: usize,
    /// Input that the decompressor is given next, in bytes.
    piece: usize,
    /// Time in which input brought next to nothing, in nanoseconds.
    barren: Cost,
}

/// How far a message has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It is whole.
    Done(Bytes),
    /// There is more to do.
    More,
}

impl Inflater {
    /// For a message that decompresses to at most `limit` bytes.
    pub(crate) fn new(
        name: &'static str,
        context: usize,
        source: fn(Gate) -> io::Result<Box<dyn Decompressor>>,
        message: Payload,
        limit: usize,
    ) -> Result<Self, Status> {
        let compressed = message.remaining();
        let source = source(Gate { message, open: 0 }).map_err(|error| invalid(name, &error))?;
        Ok(Self {
            source,
            name,
            context,
            output: BytesMut::new(),
            filled: 0,
            limit,
            compressed,
            piece: INPUT.0,
            barren: 0,
        })
    }

    /// What the message has cost so far out of proportion to its length.
    pub(crate) fn cost(&self) -> Cost {
        let free = self.compressed.saturating_mul(FREE_RATIO);
        (self.barren + self.filled.saturating_sub(free)).saturating_sub(FREE_COST)
    }

    /// Bytes of memory that it holds.
    pub(crate) fn memory(&self) -> usize {
        self.context + self.compressed + self.output.capacity()
    }

    /// Goes on for so many bytes of output, or as many nanoseconds without any; it may be a piece
    /// more.
    ///
    /// # Errors
    /// INTERNAL if the message is not of its encoding, or something follows it; RESOURCE_EXHAUSTED
    /// as soon as it is over the limit.
    pub(crate) fn step(&mut self, slice: usize) -> Result<Progress, Status> {
        let (filled, barren) = (self.filled, self.barren);
        while self.filled - filled < slice && self.barren - barren < slice {
            self.make_room();
            let before = self.source.gate().reopen(self.piece);
            let room = self.output.len().min(self.filled + OUTPUT);
            let started = Instant::now();
            let read = self.source.read(&mut self.output[self.filled..room]);
            let consumed = before - self.source.gate().message.remaining();
            let produced = match read {
                Ok(0) => return self.finish(),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(invalid(self.name, &error)),
            };
            self.filled += produced;
            if self.filled > self.limit {
                return Err(FrameError::TooLarge { length: None, limit: self.limit }.into());
            }
            if produced < consumed / 2 {
                let time = usize::try_from(started.elapsed().as_nanos()).unwrap_or(usize::MAX);
                self.barren += time.min(BARREN_MOST * consumed);
                self.piece = INPUT.0;
            } else {
                self.piece = INPUT.1.min(2 * self.piece);
            }
        }
        Ok(Progress::More)
    }

    /// Room for the next piece of output: never much more than what there is, or than the limit.
    fn make_room(&mut self) {
        if self.filled == self.output.len() {
            let most = self.limit.saturating_add(1);
            let room = OUTPUT.max(self.filled);
            self.output.resize(self.filled.saturating_add(room).min(most), 0);
        }
    }

    fn finish(&mut self) -> Result<Progress, Status> {
        if self.source.gate().message.has_remaining() {
            let name = self.name;
            return Err(Status::internal(format!(
                "there is more behind the {name} of the message"
            )));
        }
        let mut output = std::mem::take(&mut self.output);
        output.truncate(self.filled);
        Ok(Progress::Done(output.freeze()))
    }
}

fn invalid(name: &str, error: &io::Error) -> Status {
    Status::internal(format!("the message is not valid {name}: {error}"))
}

/// The compressed bytes, of which a decompressor sees a bounded piece at a time: it would otherwise
/// look for output until it finds some.
pub(crate) struct Gate {
    message: Payload,
    open: usize,
}

impl Gate {
    /// Lets the next piece through, and says how many bytes are left in all.
    fn reopen(&mut self, piece: usize) -> usize {
        self.open = piece;
        self.message.remaining()
    }
}

impl Gate {
    /// The next bytes that are unread, whether they are let through or not.
    #[cfg(feature = "zstd")]
    pub(super) fn rest(&self) -> &[u8] {
        self.message.chunk()
    }
}

impl BufRead for Gate {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let chunk = self.message.chunk();
        let open = self.open.min(chunk.len());
        if open == 0 && !chunk.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(&chunk[..open])
    }

    fn consume(&mut self, count: usize) {
        self.message.advance(count);
        self.open -= count;
    }
}

impl Read for Gate {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let count = chunk.len().min(output.len());
        output[..count].copy_from_slice(&chunk[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
#[cfg(all(feature = "gzip", feature = "deflate", feature = "zstd"))]
mod tests {
    use super::*;
    use crate::Code;
    use crate::grpc::compression::Encoding;

    const LIMIT: usize = 1 << 20;
    const SLICE: usize = 64 * 1024;

    fn inflater(encoding: Encoding, message: Vec<u8>) -> Inflater {
        encoding.inflater(Bytes::from(message).into(), LIMIT).unwrap()
    }

    /// The steps that it takes, and how it ends.
    fn steps(mut inflater: Inflater) -> (usize, Result<Bytes, Status>) {
        for step in 1.. {
            match inflater.step(SLICE) {
                Ok(Progress::More) => {}
                Ok(Progress::Done(message)) => return (step, Ok(message)),
                Err(status) => return (step, Err(status)),
            }
        }
        unreachable!()
    }

    #[test]
    fn a_long_message_comes_in_slices() {
        for encoding in [Encoding::GZIP, Encoding::DEFLATE, Encoding::ZSTD] {
            let message: Vec<u8> = (0..LIMIT).map(|at| (at / 3) as u8).collect();
            let (count, inflated) = steps(inflater(encoding, encoding.compress(&message).unwrap()));
            assert_eq!(inflated.unwrap(), message, "{encoding:?}");
            assert!(
                (LIMIT / SLICE / 2..=LIMIT / SLICE + 2).contains(&count),
                "{encoding:?}: {count}"
            );
        }
    }

    #[test]
    fn empty_blocks_come_in_slices_and_cost() {
        // Blocks of fixed codes with nothing but their end (RFC 1951, 3.2.6), four in five bytes.
        let blocks = [0b0000_0010, 0b0000_1000, 0b0010_0000, 0b1000_0000, 0].repeat(2_000);
        let zlib = [&[0x78, 0x9c][..], &blocks].concat();
        let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &blocks].concat();
        for (encoding, message) in [(Encoding::DEFLATE, zlib), (Encoding::GZIP, gzip)] {
            let mut inflater = inflater(encoding, message);
            let mut steps = 1;
            let status = loop {
                match inflater.step(SLICE) {
                    Ok(progress) => assert!(matches!(progress, Progress::More)),
                    Err(status) => break status,
                }
                steps += 1;
            };
            assert_eq!(status.code(), Code::Internal, "it has no end");
            assert!(steps > 10, "{encoding:?}: {steps} steps");
            assert!(inflater.cost() > 10 * SLICE, "{encoding:?}: {}", inflater.cost());
        }
    }

    #[test]
    fn ordinary_messages_cost_next_to_nothing() {
        for encoding in [Encoding::GZIP, Encoding::DEFLATE, Encoding::ZSTD] {
            let message: Vec<u8> =
                (0..LIMIT as u32 / 4).flat_map(|n| (n / 7).to_be_bytes()).collect();
            let compressed = encoding.compress(&message).unwrap();
            // A part of it is time, in which another process may have had the core.
            let costs = (0..5).map(|_| {
                let mut inflater = inflater(encoding, compressed.clone());
                while let Progress::More = inflater.step(SLICE).unwrap() {}
                inflater.cost()
            });
            // Tables of codes bring nothing by themselves, once in tens of kilobytes.
            let least = costs.min().unwrap();
            assert!(least < message.len() / 4, "{encoding:?}: {least}");
        }
    }

    #[test]
    fn a_message_is_one_member_and_nothing_else() {
        for encoding in [Encoding::GZIP, Encoding::DEFLATE, Encoding::ZSTD] {
            let member = encoding.compress(b"hello").unwrap();
            for behind in [&member[..], b"x"] {
                let message = [&member[..], behind].concat();
                let status = steps(inflater(encoding, message)).1.unwrap_err();
                assert_eq!(status.code(), Code::Internal, "{encoding:?}");
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        for encoding in [Encoding::GZIP, Encoding::DEFLATE, Encoding::ZSTD] {
            let bomb = encoding.compress(&vec![0; 8 << 20]).unwrap();
            let mut inflater = encoding.inflater(Bytes::from(bomb).into(), 1000).unwrap();
            let status = inflater.step(usize::MAX).unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted, "{encoding:?}");
            assert!(inflater.output.capacity() <= 2 * OUTPUT);
        }
    }
}

//! Decompression in slices, sans I/O. A few bytes can expand to megabytes, or take a second of
//! work. Slices let the worker serve its other calls meanwhile.

use std::io::{self, BufRead, Read};
use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::frame::{FrameError, Payload};
use super::status::Status;

/// The length of a piece of output, in bytes. Pieces of one size are cheap to allocate again. One
/// buffer that grows would hold its old memory too, and the allocator would keep some of both.
const PIECE: usize = 16 * 1024;

/// Input that is passed to the decompressor at a time, in bytes: the minimum and the maximum. The
/// minimum applies at first and after input with little output. The slowest known input, empty
/// blocks of deflate, takes two microseconds a byte.
const INPUT: (usize, usize) = (128, 1024);

/// The unit of decompression cost. One nanosecond on barren input, which yields next to no output,
/// costs one unit. So does one byte of output beyond `FREE_RATIO`, which takes about as long.
pub(crate) type Cost = usize;

/// A message may inflate to this many times its length at no cost. Text and protobuf seldom reach a
/// ratio of ten. Only zeros and decompression bombs exceed a hundred.
pub(crate) const FREE_RATIO: usize = 32;

/// The cost that every message may have for free: headers and footers of formats yield no output.
const FREE_COST: Cost = 20_000;

/// The maximum cost of one byte of barren input. The clock also counts time in which another
/// process uses the core.
const BARREN_MOST: Cost = 3_000;

/// A decompressor of one frame or member of its format. It reads the message through a [`Gate`].
pub(crate) trait Decompressor: Read + Send {
    fn gate(&mut self) -> &mut Gate;

    /// Returns the number of bytes of the message that are not read yet.
    fn unread(&self) -> usize;
}

#[cfg(feature = "gzip")]
impl Decompressor for flate2::bufread::GzDecoder<Gate> {
    fn gate(&mut self) -> &mut Gate {
        self.get_mut()
    }

    fn unread(&self) -> usize {
        self.get_ref().unread()
    }
}

#[cfg(feature = "deflate")]
impl Decompressor for flate2::bufread::ZlibDecoder<Gate> {
    fn gate(&mut self) -> &mut Gate {
        self.get_mut()
    }

    fn unread(&self) -> usize {
        self.get_ref().unread()
    }
}

/// A message that is being decompressed.
pub(crate) struct Inflater {
    source: Box<dyn Decompressor>,
    name: &'static str,
    /// Memory of the decompressor without its output, in bytes.
    context: usize,
    /// The full pieces of the output.
    output: Payload,
    /// The last piece of the output, and room for more.
    last: BytesMut,
    /// The length of the output in `last`.
    filled: usize,
    /// The length of the whole output so far.
    produced: usize,
    limit: usize,
    compressed: usize,
    /// The length of the next input, in bytes.
    piece: usize,
    /// Time spent on barren input, in nanoseconds.
    barren: Cost,
}

/// The progress of a message.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The message is complete.
    Done(Payload),
    /// More input is left.
    More,
}

impl Inflater {
    /// Starts a message that may decompress to at most `limit` bytes.
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
            output: Payload::default(),
            last: BytesMut::new(),
            filled: 0,
            produced: 0,
            limit,
            compressed,
            piece: INPUT.0,
            barren: 0,
        })
    }

    /// Returns the message's cost so far, beyond the part that is free for its length.
    pub(crate) fn cost(&self) -> Cost {
        let free = self.compressed.saturating_mul(FREE_RATIO);
        (self.barren + self.produced.saturating_sub(free)).saturating_sub(FREE_COST)
    }

    /// Returns the memory that the message holds, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.context + self.source.unread() + self.output.remaining() + self.last.capacity()
    }

    /// Decompresses up to `slice` bytes of output, or for up to `slice` nanoseconds of barren
    /// input. The last piece may exceed the slice.
    ///
    /// # Errors
    /// INTERNAL if the message is not valid in its encoding, or more bytes follow it.
    /// RESOURCE_EXHAUSTED as soon as the output exceeds the limit.
    pub(crate) fn step(&mut self, slice: usize) -> Result<Progress, Status> {
        let (output, barren) = (self.produced, self.barren);
        while self.produced - output < slice && self.barren - barren < slice {
            self.make_room();
            let before = self.source.gate().reopen(self.piece);
            let started = Instant::now();
            let read = self.source.read(&mut self.last[self.filled..]);
            let consumed = before - self.source.unread();
            let produced = match read {
                Ok(0) => return self.finish(),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(invalid(self.name, &error)),
            };
            self.filled += produced;
            self.produced += produced;
            if self.produced > self.limit {
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

    /// Makes room for the next output: a new piece once the last one is full. The output may exceed
    /// the limit by one byte.
    fn make_room(&mut self) {
        if self.filled == self.last.len() {
            self.put_last_piece();
            let most = self.limit.saturating_sub(self.output.remaining()).saturating_add(1);
            self.last = BytesMut::zeroed(PIECE.min(most));
        }
    }

    fn put_last_piece(&mut self) {
        let mut last = std::mem::take(&mut self.last);
        last.truncate(self.filled);
        self.output.push(last.freeze());
        self.filled = 0;
    }

    fn finish(&mut self) -> Result<Progress, Status> {
        if self.source.unread() > 0 {
            let name = self.name;
            return Err(Status::internal(format!("the message has bytes behind its {name} data")));
        }
        self.put_last_piece();
        Ok(Progress::Done(std::mem::take(&mut self.output)))
    }
}

fn invalid(name: &str, error: &io::Error) -> Status {
    Status::internal(format!("the message is not valid {name}: {error}"))
}

/// The compressed bytes. It passes a bounded piece at a time to the decompressor, which would
/// otherwise read on until it has output.
pub(crate) struct Gate {
    message: Payload,
    open: usize,
}

impl Gate {
    /// Allows `piece` more bytes and returns how many bytes are left in total.
    fn reopen(&mut self, piece: usize) -> usize {
        self.open = piece;
        self.unread()
    }

    pub(super) fn unread(&self) -> usize {
        self.message.remaining()
    }

    /// The next unread bytes, including the bytes that are not allowed yet.
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
    use bytes::Bytes;

    use super::*;
    use crate::Code;
    use crate::grpc::compression::Encoding;

    const LIMIT: usize = 1 << 20;
    const SLICE: usize = 64 * 1024;

    fn inflater(encoding: Encoding, message: Vec<u8>) -> Inflater {
        encoding.inflater(Bytes::from(message).into(), LIMIT).unwrap()
    }

    /// Runs the inflater, and returns the number of steps and the result.
    fn steps(mut inflater: Inflater) -> (usize, Result<Bytes, Status>) {
        for step in 1.. {
            match inflater.step(SLICE) {
                Ok(Progress::More) => {}
                Ok(Progress::Done(message)) => return (step, Ok(message.into_bytes())),
                Err(status) => return (step, Err(status)),
            }
        }
        unreachable!()
    }

    #[test]
    fn inflate_slices_a_long_message() {
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
    fn inflate_slices_and_charges_empty_blocks() {
        // Blocks of fixed codes that contain only their end code (RFC 1951, 3.2.6). Four blocks
        // take five bytes.
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
            assert_eq!(status.code(), Code::Internal, "the message has no end");
            assert!(steps > 10, "{encoding:?}: {steps} steps");
            assert!(inflater.cost() > 10 * SLICE, "{encoding:?}: {}", inflater.cost());
        }
    }

    #[test]
    fn inflate_charges_little_for_ordinary_messages() {
        for encoding in [Encoding::GZIP, Encoding::DEFLATE, Encoding::ZSTD] {
            let message: Vec<u8> =
                (0..LIMIT as u32 / 4).flat_map(|n| (n / 7).to_be_bytes()).collect();
            let compressed = encoding.compress(&message).unwrap();
            // The cost includes time, in which another process may use the core.
            let costs = (0..5).map(|_| {
                let mut inflater = inflater(encoding, compressed.clone());
                while let Progress::More = inflater.step(SLICE).unwrap() {}
                inflater.cost()
            });
            // Code tables yield no output. There is one in tens of kilobytes.
            let least = costs.min().unwrap();
            assert!(least < message.len() / 4, "{encoding:?}: {least}");
        }
    }

    #[test]
    fn inflate_rejects_bytes_after_the_first_member() {
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
    fn inflate_holds_the_unread_input_and_the_output_once() {
        let mut random = 1_u32;
        let message: Vec<u8> = (0..LIMIT)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 24) as u8
            })
            .collect();
        for encoding in [Encoding::GZIP, Encoding::DEFLATE, Encoding::ZSTD] {
            let compressed = encoding.compress(&message).unwrap();
            let mut inflater = inflater(encoding, compressed);
            let most = inflater.context + LIMIT + LIMIT / 10;
            while let Progress::More = inflater.step(SLICE).unwrap() {
                assert!(inflater.memory() <= most, "{encoding:?}: {}", inflater.memory());
            }
        }
    }

    #[test]
    fn inflate_stops_a_bomb_at_the_limit() {
        for encoding in [Encoding::GZIP, Encoding::DEFLATE, Encoding::ZSTD] {
            let bomb = encoding.compress(&vec![0; 8 << 20]).unwrap();
            let mut inflater = encoding.inflater(Bytes::from(bomb).into(), 1000).unwrap();
            let status = inflater.step(usize::MAX).unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted, "{encoding:?}");
            assert!(inflater.last.capacity() <= PIECE && !inflater.output.has_remaining());
        }
    }
}

//! Decompression in slices, sans I/O: a few bytes may stand for megabytes, or for a second of work,
//! and the other calls of a worker must not wait for that.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{FrameError, Payload};
use super::status::Status;

/// The least room for output, in bytes.
const OUTPUT: usize = 16 * 1024;

/// Input that is worked off at a time. The slowest there is, empty blocks of deflate, takes a third
/// of a microsecond a byte.
const INPUT: usize = 1024;

/// What a byte of input counts as, in bytes of output, where it brings less than itself: empty
/// blocks and members take that much longer than ordinary data.
const BARREN: usize = 64;

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

#[cfg(feature = "zstd")]
impl Decompressor for zstd::stream::read::Decoder<'static, Gate> {
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
    work: usize,
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
        let output = BytesMut::new();
        Ok(Self { source, name, context, output, filled: 0, limit, compressed, work: 0 })
    }

    /// The length of the compressed message, in bytes.
    pub(crate) fn compressed(&self) -> usize {
        self.compressed
    }

    /// Work done so far, in bytes of output of ordinary data, of which a core does some 200 MB/s.
    pub(crate) fn work(&self) -> usize {
        self.work
    }

    /// Bytes of memory that it holds.
    pub(crate) fn memory(&self) -> usize {
        self.context + self.compressed + self.output.capacity()
    }

    /// Goes on for at most about this much more work.
    ///
    /// # Errors
    /// INTERNAL if the message is not of its encoding, or something follows it; RESOURCE_EXHAUSTED
    /// as soon as it is over the limit.
    pub(crate) fn step(&mut self, work: usize) -> Result<Progress, Status> {
        let end = self.work.saturating_add(work.max(1));
        while self.work < end {
            self.make_room();
            let before = self.source.gate().reopen();
            let room = self.output.len().min(self.filled + OUTPUT);
            let read = self.source.read(&mut self.output[self.filled..room]);
            let consumed = before - self.source.gate().message.remaining();
            let produced = match read {
                Ok(0) => return self.finish(),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(invalid(self.name, &error)),
            };
            self.filled += produced;
            self.work += produced + if produced < consumed { BARREN * consumed } else { 0 };
            if self.filled > self.limit {
                return Err(FrameError::TooLarge { length: None, limit: self.limit }.into());
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
    fn reopen(&mut self) -> usize {
        self.open = INPUT;
        self.message.remaining()
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

/// How much a zstd frame of these first bytes may look back, at most 8 MiB (RFC 8878, 3.1.1.1): the
/// decompressor takes that much memory.
#[cfg(feature = "zstd")]
pub(crate) fn zstd_window(message: &[u8]) -> usize {
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let (descriptor, rest) = match message {
        [_, _, _, _, descriptor, rest @ ..] => (*descriptor, rest),
        _ => return 0,
    };
    if descriptor & SINGLE_SEGMENT == 0 {
        let Some(window) = rest.first() else { return 0 };
        let base = 1_usize << (10 + (window >> 3));
        return base + base / 8 * usize::from(window & 7);
    }
    let dictionary_id = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let content = rest.iter().skip(dictionary_id).take(length).rev();
    content.fold(0, |size: usize, byte| size.saturating_mul(256).saturating_add((*byte).into()))
}

#[cfg(test)]
#[cfg(all(feature = "gzip", feature = "deflate", feature = "zstd"))]
mod tests {
    use super::*;
    use crate::Code;
    use crate::grpc::compression::Encoding;

    const LIMIT: usize = 4 << 20;
    const SLICE: usize = 64 * 1024;

    fn inflater(encoding: Encoding, message: Vec<u8>) -> Inflater {
        encoding.inflater(Bytes::from(message).into(), LIMIT).unwrap()
    }

    /// The steps that it takes, and how it ends.
    fn steps(mut inflater: Inflater) -> (usize, Result<Bytes, Status>) {
        for step in 1.. {
            let before = inflater.work();
            match inflater.step(SLICE) {
                Ok(Progress::More) => {}
                Ok(Progress::Done(message)) => return (step, Ok(message)),
                Err(status) => return (step, Err(status)),
            }
            assert!(inflater.work() <= before + SLICE + OUTPUT + BARREN * INPUT);
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
    fn empty_blocks_come_in_slices() {
        // A header, then stored blocks of nothing (RFC 1951, 3.2.4).
        let blocks = [0, 0, 0, 0xff, 0xff].repeat(100_000);
        let zlib = [&[0x78, 0x9c][..], &blocks].concat();
        let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &blocks].concat();
        for (encoding, message) in [(Encoding::DEFLATE, zlib), (Encoding::GZIP, gzip)] {
            let length = message.len();
            let (count, inflated) = steps(inflater(encoding, message));
            assert_eq!(inflated.unwrap_err().code(), Code::Internal);
            assert!(count >= length / INPUT, "{encoding:?}: {count} steps");
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
            let bomb = encoding.compress(&vec![0; 64 << 20]).unwrap();
            let mut inflater = encoding.inflater(Bytes::from(bomb).into(), 1000).unwrap();
            let status = inflater.step(usize::MAX).unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted, "{encoding:?}");
            assert!(inflater.work() <= 1001 + BARREN * INPUT);
            assert!(inflater.output.capacity() <= 2 * OUTPUT);
        }
    }

    #[test]
    fn zstd_is_charged_for_its_window() {
        let window = |exponent: u8| [0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3];
        assert_eq!(zstd_window(&window(13)), 8 << 20);
        assert_eq!(zstd_window(&window(0)), 1024);
        let single = Encoding::ZSTD.compress(&[1; 3000]).unwrap();
        assert!((2744..=3000).contains(&zstd_window(&single)), "{}", zstd_window(&single));
        assert_eq!(zstd_window(b"short"), 0);
    }
}

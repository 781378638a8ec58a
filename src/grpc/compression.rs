//! Compression of messages (gRPC documentation, `compression.md`). Each encoding is a cargo
//! feature. Messages are compressed one by one, so a compressed call may contain plain messages.

use std::fmt;
use std::io;
use std::sync::LazyLock;

use bytes::{Buf, Bytes};
use http::HeaderValue;

use super::frame::Payload;
use super::inflate::{Decompressor, Gate, Inflater, Progress};
use super::status::Status;

/// Memory of an inflate context without its output, in bytes: a window of 32 KiB and tables.
#[cfg(any(feature = "gzip", feature = "deflate"))]
const INFLATE_CONTEXT: usize = 48 * 1024;

/// A compression algorithm for messages. There is one constant for each algorithm that is compiled
/// in.
#[derive(Clone, Copy)]
pub struct Encoding(&'static Codec);

struct Codec {
    name: &'static str,
    compress: fn(&[u8]) -> io::Result<Vec<u8>>,
    source: fn(Gate) -> io::Result<Box<dyn Decompressor>>,
    /// Memory of the decompressor for a message without its output, in bytes.
    context: fn(&[u8]) -> usize,
}

/// The encodings that are compiled in.
const ENCODINGS: &[Encoding] = &[
    #[cfg(feature = "gzip")]
    Encoding::GZIP,
    #[cfg(feature = "deflate")]
    Encoding::DEFLATE,
    #[cfg(feature = "zstd")]
    Encoding::ZSTD,
];

/// The value of `grpc-accept-encoding` for each set of encodings, indexed by the set's bits.
static ACCEPTED: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let names = |set: Encodings| {
        let names = ENCODINGS.iter().filter(|encoding| set.contain(**encoding)).map(|it| it.name());
        std::iter::once("identity").chain(names).collect::<Vec<_>>().join(",")
    };
    // Leaked once per process. A header value of a static text needs no reference count, which
    // threads would share.
    Encodings::sets().map(|set| &*String::leak(names(set))).collect()
});

impl Encoding {
    /// `gzip`, which every gRPC client supports.
    #[cfg(feature = "gzip")]
    pub const GZIP: Self = Self(&Codec {
        name: "gzip",
        compress: |message| {
            read(flate2::bufread::GzEncoder::new(message, flate2::Compression::default()))
        },
        source: |gate| Ok(Box::new(flate2::bufread::GzDecoder::new(gate))),
        context: |_| INFLATE_CONTEXT,
    });

    /// `deflate`: the zlib format (RFC 1950).
    #[cfg(feature = "deflate")]
    pub const DEFLATE: Self = Self(&Codec {
        name: "deflate",
        compress: |message| {
            read(flate2::bufread::ZlibEncoder::new(message, flate2::Compression::default()))
        },
        source: |gate| Ok(Box::new(flate2::bufread::ZlibDecoder::new(gate))),
        context: |_| INFLATE_CONTEXT,
    });

    /// `zstd` (RFC 8878): better and faster compression than the others, but few clients support
    /// it.
    #[cfg(feature = "zstd")]
    pub const ZSTD: Self = Self(&Codec {
        name: "zstd",
        compress: |message| zstd::bulk::compress(message, zstd::DEFAULT_COMPRESSION_LEVEL),
        source: |gate| Ok(Box::new(super::inflate_zstd::Zstd::new(gate)?)),
        context: super::inflate_zstd::context,
    });

    /// Returns the name in `grpc-encoding` and `grpc-accept-encoding`.
    pub const fn name(self) -> &'static str {
        self.0.name
    }

    /// Returns the encoding of this name, if it is compiled in.
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        ENCODINGS.iter().copied().find(|encoding| encoding.name().as_bytes() == name)
    }

    /// Compresses a message.
    ///
    /// # Errors
    /// Only the encoder's own errors; no message causes one.
    pub fn compress(self, message: &[u8]) -> io::Result<Vec<u8>> {
        (self.0.compress)(message)
    }

    /// Decompresses a message of at most `limit` bytes.
    ///
    /// # Errors
    /// INTERNAL if the message is not valid in this encoding. RESOURCE_EXHAUSTED as soon as the
    /// output exceeds the limit.
    pub fn decompress(self, message: &[u8], limit: usize) -> Result<Bytes, Status> {
        if message.is_empty() {
            // Some clients set the compressed flag on an empty message without compressing it.
            return Ok(Bytes::new());
        }
        let mut inflater = self.inflater(Bytes::copy_from_slice(message).into(), limit)?;
        loop {
            if let Progress::Done(message) = inflater.step(usize::MAX)? {
                return Ok(message.into_bytes());
            }
        }
    }

    /// Starts to decompress a message of at most `limit` bytes in slices.
    pub(crate) fn inflater(self, message: Payload, limit: usize) -> Result<Inflater, Status> {
        let Codec { name, source, context, .. } = self.0;
        Inflater::new(name, context(message.chunk()), *source, message, limit)
    }
}

impl PartialEq for Encoding {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Encoding {}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(any(feature = "gzip", feature = "deflate"))]
fn read(mut encoder: impl io::Read) -> io::Result<Vec<u8>> {
    let mut compressed = Vec::new();
    encoder.read_to_end(&mut compressed)?;
    Ok(compressed)
}

/// Whether and how responses are compressed. A response is only ever compressed with an encoding
/// that its client accepts. For requests, see
/// [`CallOptions::accept_encodings`](crate::CallOptions::accept_encodings).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    choice: Choice,
    min_size: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Off,
    Mirror,
    Prefer(&'static [Encoding]),
}

impl Compression {
    /// Smaller messages are sent plain: compression would cost CPU on both sides and save no packet
    /// (1,460 bytes on Ethernet).
    const MIN_SIZE: usize = 1024;

    /// Responses are not compressed.
    pub const fn off() -> Self {
        Self { choice: Choice::Off, min_size: Self::MIN_SIZE }
    }

    /// The default: a response is compressed with the encoding of its request.
    pub const fn mirror() -> Self {
        Self { choice: Choice::Mirror, min_size: Self::MIN_SIZE }
    }

    /// Responses are compressed with the first of `encodings` that the client accepts. The encoding
    /// of the request comes first if it is one of them.
    pub const fn prefer(encodings: &'static [Encoding]) -> Self {
        Self { choice: Choice::Prefer(encodings), min_size: Self::MIN_SIZE }
    }

    /// Sets the size in bytes below which messages are sent plain. Default: 1,024.
    #[must_use]
    pub const fn min_size(mut self, bytes: usize) -> Self {
        self.min_size = bytes;
        self
    }

    /// Chooses the encoding of the responses for a client that compresses requests with `request`.
    /// `accepts` returns whether the client accepts an encoding.
    pub(crate) fn choose(
        &self,
        request: Option<Encoding>,
        accepts: impl Fn(Encoding) -> bool,
    ) -> Option<Compressor> {
        let request = request.filter(|encoding| accepts(*encoding));
        let encoding = match self.choice {
            Choice::Off => None,
            Choice::Mirror => request,
            Choice::Prefer(ours) => request
                .filter(|encoding| ours.contains(encoding))
                .or_else(|| ours.iter().copied().find(|encoding| accepts(*encoding))),
        };
        encoding.map(|encoding| Compressor { encoding, min_size: self.min_size })
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::mirror()
    }
}

/// The settings for compressing the responses of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compressor {
    pub(crate) encoding: Encoding,
    pub(crate) min_size: usize,
}

/// A set of encodings that are compiled in, with one bit for each of [`ENCODINGS`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encodings(u8);

impl Encodings {
    pub(crate) const ALL: Self = Self((1 << ENCODINGS.len()) - 1);

    pub(crate) fn of(encodings: &[Encoding]) -> Self {
        encodings.iter().fold(Self(0), |set, encoding| Self(set.0 | Self::bit(*encoding)))
    }

    pub(crate) fn contain(self, encoding: Encoding) -> bool {
        self.0 & Self::bit(encoding) != 0
    }

    /// Returns the set as the value of `grpc-accept-encoding`.
    pub(crate) fn header(self) -> HeaderValue {
        HeaderValue::from_static(ACCEPTED[usize::from(self.0)])
    }

    /// Returns all sets, in the order of their indexes.
    pub(crate) fn sets() -> impl Iterator<Item = Self> {
        (0..=Self::ALL.0).map(Self)
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    fn bit(encoding: Encoding) -> u8 {
        let index = ENCODINGS.iter().position(|known| *known == encoding);
        index.map_or(0, |index| 1 << index)
    }
}

impl fmt::Debug for Encodings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ACCEPTED[usize::from(self.0)])
    }
}

/// Whether the `grpc-accept-encoding` list `accept` contains `encoding`.
pub(crate) fn lists(accept: &HeaderValue, encoding: Encoding) -> bool {
    let mut names = accept.as_bytes().split(|byte| *byte == b',');
    names.any(|name| name.trim_ascii() == encoding.name().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    const LIMIT: usize = 1 << 20;

    #[test]
    fn compression_round_trips() {
        for encoding in ENCODINGS {
            for message in [&b"x"[..], &[7; 100_000], &[0; LIMIT]] {
                let compressed = encoding.compress(message).unwrap();
                assert_eq!(encoding.decompress(&compressed, LIMIT).unwrap(), message);
            }
        }
    }

    #[test]
    fn decompression_stops_at_the_limit() {
        for encoding in ENCODINGS {
            let bomb = encoding.compress(&[0; LIMIT + 1]).unwrap();
            let status = encoding.decompress(&bomb, LIMIT).unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted, "{encoding:?}");
        }
    }

    #[test]
    fn decompression_of_invalid_input_is_internal() {
        for encoding in ENCODINGS {
            let whole = encoding.compress(&[7; 1000]).unwrap();
            for broken in [&b"hello"[..], &whole[..whole.len() / 2]] {
                let status = encoding.decompress(broken, LIMIT).unwrap_err();
                assert_eq!(status.code(), Code::Internal, "{encoding:?}");
            }
        }
    }

    #[test]
    fn decompression_accepts_empty_flagged_messages() {
        for encoding in ENCODINGS {
            assert_eq!(encoding.decompress(b"", LIMIT).unwrap(), "");
            let compressed = encoding.compress(b"").unwrap();
            assert_eq!(encoding.decompress(&compressed, LIMIT).unwrap(), "");
        }
    }

    #[test]
    #[cfg(all(feature = "gzip", feature = "zstd"))]
    fn compression_uses_only_encodings_the_client_accepts() {
        const GZIP: Encoding = Encoding::GZIP;
        const ZSTD: Encoding = Encoding::ZSTD;
        let accept = HeaderValue::from_static("identity, gzip ,br");
        let chosen = |compression: Compression, request| {
            let compressor = compression.choose(request, |encoding| lists(&accept, encoding));
            compressor.map(|compressor| compressor.encoding)
        };
        assert_eq!(chosen(Compression::mirror(), Some(GZIP)), Some(GZIP));
        assert_eq!(chosen(Compression::mirror(), Some(ZSTD)), None);
        assert_eq!(chosen(Compression::mirror(), None), None);
        assert_eq!(chosen(Compression::prefer(&[ZSTD, GZIP]), None), Some(GZIP));
        assert_eq!(chosen(Compression::prefer(&[ZSTD]), Some(GZIP)), None);
        assert_eq!(chosen(Compression::off(), Some(GZIP)), None);
    }
}

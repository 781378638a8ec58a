//! HTTP/2 for attackers: frames as bytes, and a connection that enforces no rule by itself.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;
/// A frame type of no extension, which receivers ignore.
pub(crate) const UNKNOWN: u8 = 0xee;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;

pub(crate) const NO_ERROR: u32 = 0x0;
pub(crate) const CANCEL: u32 = 0x8;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest frame that every peer accepts (RFC 9113, 4.2).
pub(crate) const MAX_FRAME: usize = 16 * 1024;

/// The window of a connection at its start, and at its largest (RFC 9113, 6.9).
pub(crate) const FIRST_WINDOW: u32 = (1 << 16) - 1;
pub(crate) const MAX_WINDOW: u32 = (1 << 31) - 1;

pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Bytes,
}

impl Frame {
    /// Whether this is the last frame of its stream.
    pub(crate) fn ends(&self) -> bool {
        match self.kind {
            DATA | HEADERS => self.flags & END_STREAM != 0,
            kind => kind == RST_STREAM,
        }
    }

    /// The first number of the payload: an error code or an increment.
    pub(crate) fn number(&self) -> u32 {
        (&self.payload[..]).try_get_u32().unwrap_or(0)
    }

    /// Takes a whole frame from the front of the input.
    pub(crate) fn take(read: &mut BytesMut) -> io::Result<Option<Self>> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3, ..] = **read else { return Ok(None) };
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::other("a frame that is too long"));
        }
        if read.len() < 9 + length {
            return Ok(None);
        }
        read.advance(9);
        let payload = read.split_to(length).freeze();
        Ok(Some(Self { kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]), payload }))
    }
}

/// Bytes to send.
#[derive(Default, Clone)]
pub(crate) struct Frames(pub(crate) Vec<u8>);

impl Frames {
    pub(crate) fn add(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        self.0.put_uint(payload.len() as u64, 3);
        self.0.put_slice(&[kind, flags]);
        self.0.put_u32(stream);
        self.0.put_slice(payload);
        self
    }

    pub(crate) fn headers(&mut self, stream: u32, block: &[u8]) -> &mut Self {
        self.add(HEADERS, END_HEADERS, stream, block)
    }

    /// HEADERS that are a whole request.
    pub(crate) fn head_alone(&mut self, stream: u32, block: &[u8]) -> &mut Self {
        self.add(HEADERS, END_HEADERS | END_STREAM, stream, block)
    }

    pub(crate) fn data(&mut self, stream: u32, data: &[u8]) -> &mut Self {
        self.add(DATA, 0, stream, data)
    }

    pub(crate) fn last_data(&mut self, stream: u32, data: &[u8]) -> &mut Self {
        self.add(DATA, END_STREAM, stream, data)
    }

    /// DATA with a padding of zeros (RFC 9113, 6.1).
    pub(crate) fn padded(&mut self, stream: u32, data: &[u8], padding: u8) -> &mut Self {
        let payload = [&[padding], data, &[0; 255][..padding.into()]].concat();
        self.add(DATA, PADDED, stream, &payload)
    }

    pub(crate) fn reset(&mut self, stream: u32, code: u32) -> &mut Self {
        self.add(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    pub(crate) fn window(&mut self, stream: u32, increment: u32) -> &mut Self {
        self.add(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
    }

    pub(crate) fn settings(&mut self, settings: &[(u16, u32)]) -> &mut Self {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.put_u16(*name);
            payload.put_u32(*value);
        }
        self.add(SETTINGS, 0, 0, &payload)
    }
}

/// SETTINGS_INITIAL_WINDOW_SIZE.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;

/// The header block of a gRPC call, the same on every connection: no dynamic table.
pub(crate) fn head(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    // `:method: POST` and `:scheme: http` of the static table (RFC 7541, A).
    let mut block = vec![0x83, 0x86];
    literal(&mut block, ":path", path);
    literal(&mut block, ":authority", "test");
    literal(&mut block, "content-type", "application/grpc");
    literal(&mut block, "te", "trailers");
    for (name, value) in more {
        literal(&mut block, name, value);
    }
    block
}

/// The same headers in two forms. The first puts each header into the dynamic table, for the first
/// call of a connection. The second uses one byte for each, for the calls after it (RFC 7541, 6.1
/// and 6.2.1).
pub(crate) fn indexed_heads(path: &str, more: &[(&str, &str)]) -> [Vec<u8>; 2] {
    let fields = [(":path", path), (":authority", "test"), ("content-type", "application/grpc")];
    let fields = [&fields[..], &[("te", "trailers")], more].concat();
    let (mut first, mut later) = (vec![0x83, 0x86], vec![0x83, 0x86]);
    for (at, (name, value)) in fields.iter().enumerate() {
        first.push(0x40);
        text(&mut first, name.as_bytes());
        text(&mut first, value.as_bytes());
        // 62 is the newest entry.
        later.extend_from_slice(&index(62 + fields.len() - 1 - at));
    }
    [first, later]
}

/// A header as an index, an integer with a prefix of seven bits (RFC 7541, 5.1 and 6.1); below 255.
pub(crate) fn index(index: usize) -> Vec<u8> {
    match index.checked_sub(0x7f) {
        None => vec![0x80 | index as u8],
        Some(rest) => vec![0xff, rest as u8],
    }
}

/// RFC 7541, 6.2.2: a literal without indexing, with a new name.
pub(crate) fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    text(block, name.as_bytes());
    text(block, value.as_bytes());
}

/// RFC 7541, 5.2: without Huffman coding, after a length with a prefix of seven bits.
fn text(block: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 0x7f {
        block.push(length as u8);
    } else {
        block.push(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            block.push(length as u8 | 0x80);
            length >>= 7;
        }
        block.push(length as u8);
    }
    block.extend_from_slice(text);
}

/// A message with its prefix.
pub(crate) fn message(compressed: bool, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![u8::from(compressed)];
    message.put_u32(bytes.len() as u32);
    message.put_slice(bytes);
    message
}

/// A protobuf message with one string.
pub(crate) fn string_field(number: u8, text: &[u8]) -> Vec<u8> {
    let mut message = vec![number << 3 | 2];
    let mut length = text.len();
    while length >= 0x80 {
        message.push(length as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(text);
    message
}

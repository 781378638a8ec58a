//! The two directions of the wire: a program becomes frames (RFC 9113), and the server's frames
//! are checked.

use std::collections::HashMap;
use std::time::Duration;

use balafon::grpc::frame::{self, FrameDecoder};
use bytes::{BufMut, Bytes, BytesMut};

/// The connection preface with empty SETTINGS (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What the client calls. The last two are not there, or not even names of methods.
pub const PATHS: [&str; 7] = [
    "/fuzz.Fuzz/Echo",
    "/fuzz.Fuzz/Count",
    "/fuzz.Fuzz/Join",
    "/fuzz.Fuzz/Chat",
    "/fuzz.Fuzz/Hang",
    "/fuzz.Fuzz/None",
    "/%00?a=\"b\"",
];

/// Headers that a call may have besides those that it needs.
const FIELDS: [(&str, &str); 15] = [
    ("te", "trailers"),
    ("grpc-timeout", "10m"),
    ("grpc-timeout", "0n"),
    ("grpc-timeout", "99999999H"),
    ("grpc-timeout", "soon"),
    ("grpc-encoding", "identity"),
    ("grpc-encoding", "gzip"),
    ("grpc-accept-encoding", "identity,gzip"),
    ("content-type", "text/plain"),
    ("content-length", "6"),
    ("some-bin", "AQID,BA=="),
    ("grpc-status", "0"),
    ("connection", "close"),
    (":method", "GET"),
    (":authority", "fuzz"),
];

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const PRIORITY_UPDATE: u8 = 0x10;

/// END_STREAM, and ACK for SETTINGS and PING.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 0x20;

/// A frame header (RFC 9113, 4.1).
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [x, y, z, kind, flags, a, b, c, d] = *bytes.first_chunk()?;
        let length = u32::from_be_bytes([0, x, y, z]) as usize;
        // The highest bit is reserved.
        let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
        Some(Self { length, kind, flags, stream })
    }

    /// Splits off the first frame, if it is complete: its header, its payload, and the rest.
    pub fn split(bytes: &[u8]) -> Option<(Self, &[u8], &[u8])> {
        let head = Self::parse(bytes)?;
        let (payload, rest) = bytes[9..].split_at_checked(head.length)?;
        Some((head, payload, rest))
    }
}

/// One thing that the client does: it waits, then writes.
#[derive(Default)]
pub struct Step {
    pub pause: Duration,
    pub bytes: Vec<u8>,
}

/// The steps of a program; one that is cut off has the payload that is left.
pub fn steps(mut program: &[u8]) -> impl Iterator<Item = Step> {
    std::iter::from_fn(move || {
        let ([op, stream, arg, length], rest) = program.split_first_chunk()?;
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        program = rest;
        Some(step(*op, *stream, *arg, payload))
    })
}

fn step(op: u8, stream: u8, arg: u8, payload: &[u8]) -> Step {
    // The streams that a client may open, and few of them: most steps shall meet a call.
    let stream = 1 + 2 * u32::from(stream % 8);
    let end = arg & END_STREAM;
    let bytes = match op % 12 {
        0 => headers(stream, end | END_HEADERS, &block(payload)),
        1 => message(stream, arg, payload),
        2 => frame(DATA, end, stream, payload),
        3 => frame(RST_STREAM, 0, stream, &u32::from(arg).to_be_bytes()),
        4 => {
            let stream = if arg & 1 == 0 { stream } else { 0 };
            frame(WINDOW_UPDATE, 0, stream, &(u32::from(arg) << 8 | 1).to_be_bytes())
        }
        5 => frame(SETTINGS, 0, 0, &setting(arg, payload)),
        6 => frame(PING, arg & 1, 0, b"fuzz ran"),
        7 => frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, arg]),
        8 => {
            let block = block(payload);
            let (first, second) = block.split_at(usize::from(arg).min(block.len()));
            let mut bytes = headers(stream, end, first);
            bytes.extend(frame(CONTINUATION, END_HEADERS, stream, second));
            bytes
        }
        9 => frame(arg, payload.first().copied().unwrap_or(0), stream, payload),
        10 => payload.to_vec(),
        _ => {
            return Step { pause: Duration::from_millis(arg.into()), ..Step::default() };
        }
    };
    Step { bytes, ..Step::default() }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + payload.len());
    bytes.put_uint(payload.len() as u64, 3);
    bytes.put_u8(kind);
    bytes.put_u8(flags);
    bytes.put_u32(stream);
    bytes.put_slice(payload);
    bytes
}

fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags, stream, block)
}

/// The headers of a call: the first byte chooses the path, each other one a further field.
fn block(choices: &[u8]) -> Vec<u8> {
    let (path, fields) = choices.split_first().unwrap_or((&0, &[]));
    let mut block = Vec::new();
    let fields: Vec<_> =
        fields.iter().map(|choice| FIELDS[usize::from(*choice) % FIELDS.len()]).collect();
    let chosen = |name| fields.iter().any(|field| field.0 == name);
    let path = PATHS[usize::from(*path) % PATHS.len()];
    for field in [(":method", "POST"), (":scheme", "http"), (":path", path)] {
        if !chosen(field.0) {
            literal(&mut block, field);
        }
    }
    // The regular fields of a valid list come after the pseudo-headers.
    let pseudo = |field: &&(&str, &str)| field.0.starts_with(':');
    fields.iter().filter(pseudo).for_each(|field| literal(&mut block, *field));
    if !chosen("content-type") {
        literal(&mut block, ("content-type", "application/grpc"));
    }
    fields.iter().filter(|field| !pseudo(field)).for_each(|field| literal(&mut block, *field));
    block
}

/// Literal Header Field without Indexing, New Name (RFC 7541, 6.2.2). All texts are shorter than
/// 127 bytes, so a length is one byte.
fn literal(block: &mut Vec<u8>, (name, value): (&str, &str)) {
    block.put_u8(0);
    for text in [name, value] {
        block.put_u8(text.len() as u8);
        block.put_slice(text.as_bytes());
    }
}

/// A message of text, repeated to reach the limits of sizes and windows.
fn message(stream: u32, arg: u8, payload: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(payload).repeat(usize::from(arg >> 1) + 1);
    let mut message = BytesMut::new();
    frame::encode(&mut message, &text, usize::MAX).expect("it is far from 4 GiB");
    // As large as a DATA frame may be (RFC 9113, 4.2).
    let pieces: Vec<_> = message.chunks(16 * 1024).collect();
    let last = pieces.len() - 1;
    let end = |at| if at == last { arg & END_STREAM } else { 0 };
    let frames = pieces.iter().enumerate().map(|(at, piece)| frame(DATA, end(at), stream, piece));
    frames.collect::<Vec<_>>().concat()
}

/// One setting that h2 acts on, with a value of four bytes (RFC 9113, 6.5.2).
fn setting(arg: u8, payload: &[u8]) -> Vec<u8> {
    let mut value = [0; 4];
    let count = payload.len().min(4);
    value[4 - count..].copy_from_slice(&payload[..count]);
    let mut setting = vec![0, arg % 8];
    setting.extend(value);
    setting
}

/// The server's side of the connection, as far as it has arrived.
#[derive(Default)]
pub struct Responses {
    unread: BytesMut,
    streams: HashMap<u32, Response>,
}

/// ```text
/// HEADERS DATA* HEADERS+END_STREAM   or   HEADERS+END_STREAM   or cut off by RST_STREAM
/// ```
struct Response {
    headers: usize,
    messages: FrameDecoder,
    over: bool,
    foreign: bool,
}

/// The first byte of the text that is the body of a 405 or 415. A message begins with 0 or 1. The client's window may
/// cut the text anywhere.
const NOT_GRPC: u8 = b'T';

impl Responses {
    pub fn receive(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while let Some(head) = Head::parse(&self.unread) {
            if self.unread.len() < 9 + head.length {
                return;
            }
            let payload = self.unread.split_to(9 + head.length).freeze().slice(9..);
            self.check(head.kind, head.flags, head.stream, payload);
        }
    }

    fn check(&mut self, kind: u8, flags: u8, stream: u32, payload: Bytes) {
        if ![DATA, HEADERS, RST_STREAM].contains(&kind) {
            return;
        }
        let response = self.streams.entry(stream).or_insert_with(|| Response {
            headers: 0,
            messages: FrameDecoder::new(usize::MAX),
            over: false,
            foreign: false,
        });
        if kind == RST_STREAM {
            response.over = true;
            return;
        }
        assert!(!response.over, "frame {kind} on stream {stream} after its end");
        if kind == HEADERS {
            response.headers += 1;
            assert!(response.headers <= 2, "headers {} on stream {stream}", response.headers);
        } else if payload.first() == Some(&NOT_GRPC) || response.foreign {
            // The answer to what is not gRPC: a line of text, and no status.
            response.foreign = true;
            response.over = flags & END_STREAM != 0;
            return;
        } else {
            assert_eq!(response.headers, 1, "data on stream {stream} before or after its place");
            response.messages.push(payload);
            while response.messages.next_frame().expect("messages are well-formed").is_some() {}
        }
        if flags & END_STREAM != 0 {
            assert_eq!(kind, HEADERS, "stream {stream} ends without a status");
            response.messages.end().expect("no status follows half a message");
            response.over = true;
        } else {
            assert!(response.headers < 2, "headers of stream {stream} that end nothing");
        }
    }
}

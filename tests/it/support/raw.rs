//! A scripted HTTP/2 peer, byte by byte: it sends bytes that no client library would, and sees each
//! frame of the answer as it came.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::Reason;
use loona_hpack::Decoder;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::patiently;

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const PRIORITY: u8 = 0x2;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const PING: u8 = 0x6;
pub const GOAWAY: u8 = 0x7;
pub const WINDOW_UPDATE: u8 = 0x8;
pub const CONTINUATION: u8 = 0x9;
/// A frame type of no extension, which receivers ignore.
pub const UNKNOWN: u8 = 0xee;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest frame that every peer accepts (RFC 9113, 4.2).
const MAX_FRAME: usize = 16 * 1024;

pub type Fields = Vec<(String, Vec<u8>)>;

pub struct Raw<T = TcpStream> {
    io: T,
    read: BytesMut,
    hpack: Decoder<'static>,
    /// The settings of the server.
    pub settings: Vec<(u16, u32)>,
}

/// A frame, with its header block decoded if it is HEADERS. CONTINUATION frames are part of it.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Bytes,
    pub fields: Fields,
}

impl Raw {
    pub async fn connect(addr: SocketAddr) -> Self {
        Self::connect_with(addr, &[]).await
    }

    /// A peer with these settings, which the server has acknowledged.
    pub async fn connect_with(addr: SocketAddr, settings: &[(u16, u32)]) -> Self {
        Self::over(TcpStream::connect(addr).await.unwrap(), settings).await
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Raw<T> {
    pub async fn over(io: T, settings: &[(u16, u32)]) -> Self {
        let mut raw =
            Self { io, read: BytesMut::new(), hpack: Decoder::new(), settings: Vec::new() };
        raw.io.write_all(PREFACE).await.unwrap();
        let mut payload = BytesMut::new();
        for (name, value) in settings {
            payload.put_u16(*name);
            payload.put_u32(*value);
        }
        raw.send(SETTINGS, 0, 0, &payload).await;
        let mut theirs = raw.until(|frame| frame.kind == SETTINGS && frame.flags & ACK == 0).await;
        while theirs.payload.has_remaining() {
            raw.settings.push((theirs.payload.get_u16(), theirs.payload.get_u32()));
        }
        raw.send(SETTINGS, ACK, 0, &[]).await;
        raw.until(|frame| frame.kind == SETTINGS && frame.flags & ACK != 0).await;
        raw
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = BytesMut::new();
        put_frame(&mut frame, kind, flags, stream, payload);
        self.io.write_all(&frame).await.unwrap();
    }

    /// HEADERS, and CONTINUATION as far as needed, in one write.
    pub async fn headers(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        self.headers_of_bytes(stream, &fields, end).await;
    }

    pub async fn headers_of_bytes(&mut self, stream: u32, fields: &[(&[u8], &[u8])], end: bool) {
        let mut block = block(fields);
        let mut frames = BytesMut::new();
        let mut kind = HEADERS;
        let mut flags = if end { END_STREAM } else { 0 };
        while kind == HEADERS || block.has_remaining() {
            let part = block.split_to(block.len().min(MAX_FRAME));
            flags |= if block.is_empty() { END_HEADERS } else { 0 };
            put_frame(&mut frames, kind, flags, stream, &part);
            (kind, flags) = (CONTINUATION, 0);
        }
        self.io.write_all(&frames).await.unwrap();
    }

    pub async fn data(&mut self, stream: u32, data: &[u8], end: bool) {
        self.send(DATA, if end { END_STREAM } else { 0 }, stream, data).await;
    }

    /// A whole request with one message.
    pub async fn request(&mut self, stream: u32, fields: &[(&str, &str)], message: &[u8]) {
        self.headers(stream, fields, false).await;
        self.data(stream, message, true).await;
    }

    pub async fn reset(&mut self, stream: u32, reason: Reason) {
        self.send(RST_STREAM, 0, stream, &u32::from(reason).to_be_bytes()).await;
    }

    /// Opens the window of a stream, or of the connection (stream 0).
    pub async fn window(&mut self, stream: u32, increment: u32) {
        self.send(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes()).await;
    }

    /// When this returns, the server has read all frames that were sent before. The result has all
    /// frames that its connection sent at once.
    pub async fn settled(&mut self) -> Vec<Frame> {
        let mut before = Vec::new();
        // The first PING is answered together with the frames before it, which may be written after
        // it.
        for payload in [*b"settling", *b"settled?"] {
            self.send(PING, 0, 0, &payload).await;
            loop {
                let frame = self.next().await.expect("the connection is open");
                if frame.kind == PING && frame.flags & ACK != 0 && *frame.payload == payload {
                    break;
                }
                before.push(frame);
            }
        }
        before
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut frame = self.next_raw().await?;
        if frame.kind == HEADERS {
            while frame.flags & END_HEADERS == 0 {
                let more = self.next_raw().await?;
                assert_eq!((more.kind, more.stream), (CONTINUATION, frame.stream));
                frame.flags |= more.flags;
                frame.payload = [frame.payload, more.payload].concat().into();
            }
            let fields = self.hpack.decode(&frame.payload).unwrap();
            let text = |name| String::from_utf8(name).unwrap();
            frame.fields = fields.into_iter().map(|(name, value)| (text(name), value)).collect();
        }
        Some(frame)
    }

    async fn next_raw(&mut self) -> Option<Frame> {
        loop {
            if let [l0, l1, l2, kind, flags, s0, s1, s2, s3, ..] = *self.read {
                let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
                if self.read.len() >= 9 + length {
                    self.read.advance(9);
                    let payload = self.read.split_to(length).freeze();
                    let stream = u32::from_be_bytes([s0, s1, s2, s3]);
                    return Some(Frame { kind, flags, stream, payload, fields: Vec::new() });
                }
            }
            // An abrupt end counts like an orderly one here.
            let count = patiently(self.io.read_buf(&mut self.read)).await.unwrap_or(0);
            if count == 0 {
                return None;
            }
        }
    }

    /// The next frame that meets the condition; earlier frames are skipped.
    pub async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next().await.expect("the frame comes before the end");
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// The next frame of this stream that is no WINDOW_UPDATE.
    pub async fn next_of(&mut self, stream: u32) -> Frame {
        self.until(|frame| frame.stream == stream && frame.kind != WINDOW_UPDATE).await
    }

    /// All frames of this stream up to its end, by END_STREAM or RST_STREAM.
    pub async fn answer(&mut self, stream: u32) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let frame = self.next_of(stream).await;
            let last = frame.kind == RST_STREAM || frame.ends();
            frames.push(frame);
            if last {
                return frames;
            }
        }
    }

    /// The next frame of this type.
    pub async fn next_kind(&mut self, kind: u8) -> Frame {
        self.until(|frame| frame.kind == kind).await
    }

    /// Sends the same bytes this many times, as long as the server accepts them, and returns the
    /// last GOAWAY before the end of the connection.
    pub async fn flood(self, bytes: &[u8], times: usize) -> Option<Frame> {
        let (reader, mut writer) = tokio::io::split(self.io);
        let io = tokio::io::join(reader, tokio::io::sink());
        let mut raw = Raw { io, read: self.read, hpack: self.hpack, settings: self.settings };
        let write = async {
            for _ in 0..times {
                if writer.write_all(bytes).await.is_err() {
                    break;
                }
            }
        };
        let (goaway, ()) = tokio::join!(raw.goodbye(), write);
        goaway
    }

    /// Waits for the end of the connection and returns the last GOAWAY.
    pub async fn goodbye(&mut self) -> Option<Frame> {
        let mut last = None;
        while let Some(frame) = self.next().await {
            last = (frame.kind == GOAWAY).then_some(frame).or(last);
        }
        last
    }
}

impl Frame {
    /// Whether it has END_STREAM.
    pub fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    pub fn is_reset(&self, reason: Reason) -> bool {
        self.kind == RST_STREAM && self.reason() == reason
    }

    /// The error code of RST_STREAM or GOAWAY.
    pub fn reason(&self) -> Reason {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        (&self.payload[at..]).get_u32().into()
    }

    /// The last stream id of GOAWAY.
    pub fn last_stream(&self) -> u32 {
        (&self.payload[..]).get_u32()
    }

    /// The debug data of GOAWAY.
    pub fn debug(&self) -> &str {
        std::str::from_utf8(&self.payload[8..]).unwrap()
    }

    /// The value of a header that comes at most once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} came {} times", all.len());
        all.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let of_name = self.fields.iter().filter(|(other, _)| other == name);
        of_name.map(|(_, value)| std::str::from_utf8(value).unwrap()).collect()
    }
}

/// The headers that every gRPC client sends.
pub fn head(path: &str) -> Vec<(&str, &str)> {
    vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "test"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
}

/// The same headers and these.
pub fn head_with<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&head(path), more].concat()
}

/// Gives one of the headers another value.
pub fn set<'a>(fields: &mut [(&'a str, &'a str)], name: &str, value: &'a str) {
    let field = fields.iter_mut().find(|field| field.0 == name);
    field.expect("every client sends it").1 = value;
}

/// One frame, for a [`flood`](Raw::flood).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    put_frame(&mut frame, kind, flags, stream, payload);
    frame
}

/// A header block.
pub fn block(fields: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> BytesMut {
    let mut block = BytesMut::new();
    for (name, value) in fields {
        // RFC 7541, 6.2.2: a literal without indexing, with a new name.
        block.put_u8(0);
        put_string(&mut block, name.as_ref());
        put_string(&mut block, value.as_ref());
    }
    block
}

fn put_frame(buffer: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    buffer.put_uint(payload.len() as u64, 3);
    buffer.put_slice(&[kind, flags]);
    buffer.put_u32(stream);
    buffer.put_slice(payload);
}

/// RFC 7541, 5.2: without Huffman coding, after a length with a prefix of seven bits.
fn put_string(block: &mut BytesMut, text: &[u8]) {
    let mut length = text.len();
    if length < 0x7f {
        block.put_u8(length as u8);
    } else {
        block.put_u8(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            block.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        block.put_u8(length as u8);
    }
    block.put_slice(text);
}

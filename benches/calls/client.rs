//! A client whose requests are bytes prepared in advance, and which reads no more of the answers
//! than where frames end: next to nothing, beside what the server does.

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The types of frames and their flags (RFC 9113, 6).
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

const FRAME_HEADER: usize = 9;
const MAX_FRAME: usize = 16 * 1024;
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// What a call sends: the path and all request messages, framed.
pub(crate) struct Script {
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Client {
    io: DuplexStream,
    script: Script,
    /// The header block of every call but the first, all of it in the dynamic table.
    headers: Vec<u8>,
    next_stream: u32,
    read: BytesMut,
    write: BytesMut,
    /// Bytes of DATA since the connection's window was last opened.
    received: u32,
}

impl Client {
    /// Opens the connection and makes the first call.
    pub(crate) async fn open(io: DuplexStream, script: Script) -> Self {
        let mut client = Self {
            io,
            headers: first_headers(&script.path),
            script,
            next_stream: 1,
            read: BytesMut::with_capacity(64 * 1024),
            write: BytesMut::from(PREFACE),
            received: 0,
        };
        let mut window = vec![0, 4];
        window.put_u32(MAX_WINDOW);
        client.frame(SETTINGS, 0, 0, &window);
        client.frame(WINDOW_UPDATE, 0, 0, &(MAX_WINDOW - 65_535).to_be_bytes());
        client.frame(SETTINGS, ACK, 0, &[]);
        client.calls(1).await;
        client.headers = later_headers();
        client
    }

    /// Makes `count` calls, all at once, and waits for their ends.
    pub(crate) async fn calls(&mut self, count: u32) {
        for _ in 0..count {
            let stream = self.next_stream;
            self.next_stream += 2;
            let headers = std::mem::take(&mut self.headers);
            self.frame(HEADERS, END_HEADERS, stream, &headers);
            self.headers = headers;
            let body = std::mem::take(&mut self.script.body);
            let mut chunks = body.chunks(MAX_FRAME).peekable();
            while let Some(chunk) = chunks.next() {
                let flags = if chunks.peek().is_none() { END_STREAM } else { 0 };
                self.frame(DATA, flags, stream, chunk);
            }
            self.script.body = body;
        }
        self.io.write_all(&self.write).await.expect("the server reads");
        self.write.clear();
        self.ends(count).await;
    }

    /// Reads until `count` streams have ended.
    async fn ends(&mut self, mut count: u32) {
        while count > 0 {
            while self.read.len() < FRAME_HEADER || self.read.len() < self.frame_len() {
                let read = self.io.read_buf(&mut self.read).await.expect("the server writes");
                assert!(read > 0, "the server has closed the connection");
            }
            let frame = self.read.split_to(self.frame_len());
            match (frame[3], frame[4]) {
                (DATA, _) => self.received += frame.len() as u32,
                (HEADERS, flags) if flags & END_STREAM != 0 => count -= 1,
                (GOAWAY, _) => panic!("GOAWAY: {frame:?}"),
                _ => {}
            }
        }
        if self.received > MAX_WINDOW / 2 {
            let received = std::mem::take(&mut self.received);
            self.frame(WINDOW_UPDATE, 0, 0, &received.to_be_bytes());
        }
    }

    fn frame_len(&self) -> usize {
        let length = self.read[..3].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        FRAME_HEADER + length
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.write.put_uint(payload.len() as u64, 3);
        self.write.put_slice(&[kind, flags]);
        self.write.put_u32(stream);
        self.write.put_slice(payload);
    }
}

/// The headers of grpc-go, put into the dynamic table (RFC 7541, 6.2.1).
fn first_headers(path: &str) -> Vec<u8> {
    // `:method: POST` and `:scheme: http` of the static table.
    let mut block = vec![0x83, 0x86];
    let named = [(4, path), (1, "localhost:9090"), (31, "application/grpc"), (58, "grpc-go/1.70")];
    for (name, value) in named {
        block.push(0x40 | name);
        put_text(&mut block, value);
    }
    block.push(0x40);
    put_text(&mut block, "te");
    put_text(&mut block, "trailers");
    block
}

/// The same as indices (RFC 7541, 6.1): 62 is the entry made last.
fn later_headers() -> Vec<u8> {
    let dynamic = (62..=66).rev().map(|index| 0x80 | index);
    [0x83, 0x86].into_iter().chain(dynamic).collect()
}

fn put_text(block: &mut Vec<u8>, text: &str) {
    block.push(u8::try_from(text.len()).expect("no longer than 126 bytes"));
    block.extend_from_slice(text.as_bytes());
}

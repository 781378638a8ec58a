//! A client that costs next to nothing, beside what the server does: it writes bytes prepared in
//! advance, and reads no more of the answers than where frames and calls end.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The types of frames and their flags (RFC 9113, 6).
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

const FRAME_HEADER: usize = 9;
const MAX_FRAME: usize = 16 * 1024;

/// The window of a connection at its start, and at its largest (RFC 9113, 6.9).
const FIRST_WINDOW: u32 = (1 << 16) - 1;
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// What a call sends.
pub(crate) struct Call {
    pub(crate) path: String,
    /// Its headers where the path is not in the dynamic table.
    headers: Vec<u8>,
    /// All request messages, framed.
    body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(path: &str, body: &[u8]) -> Self {
        Self { path: path.to_owned(), headers: headers_with(path), body: body.to_vec() }
    }
}

pub(crate) struct Client<Io> {
    io: Io,
    /// The path in the dynamic table.
    path: String,
    /// What the headers of each call end with: `authorization`, if there is one.
    credentials: &'static [u8],
    next_stream: u32,
    read: BytesMut,
    write: BytesMut,
    /// Bytes of DATA since the connection's window was last opened.
    received: u32,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Client<Io> {
    /// Opens the connection. Its first call has no message, whatever the answer to that is: it puts
    /// the headers of a call into the dynamic table, where later calls of this path find them all,
    /// and calls of other paths all but the path. `authorization` goes with all of them.
    pub(crate) async fn open(io: Io, path: &str, authorization: Option<&str>) -> Self {
        let mut client = Self {
            io,
            path: path.to_owned(),
            credentials: if authorization.is_some() { AUTHORIZATION } else { &[] },
            next_stream: 1,
            read: BytesMut::with_capacity(64 * 1024),
            write: BytesMut::from(PREFACE),
            received: 0,
        };
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let mut window = vec![0, 4];
        window.put_u32(MAX_WINDOW);
        client.frame(SETTINGS, 0, 0, &window);
        client.frame(WINDOW_UPDATE, 0, 0, &(MAX_WINDOW - FIRST_WINDOW).to_be_bytes());
        client.frame(SETTINGS, ACK, 0, &[]);
        // A call of its own, and before the other: so its entry is the oldest, and the indices of
        // the rest are the same with and without it.
        let blocks =
            authorization.map(authorization_header).into_iter().chain([first_headers(path)]);
        let mut count = 0;
        for block in blocks {
            let stream = client.next_stream();
            client.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
            count += 1;
        }
        client.send().await;
        client.ends(count).await;
        client
    }

    /// Makes these calls, all at once, and waits for their ends. Each has to be answered with
    /// messages; returns the last DATA.
    pub(crate) async fn calls<'a>(&mut self, calls: impl IntoIterator<Item = &'a Call>) -> Bytes {
        let mut count = 0;
        for call in calls {
            let stream = self.next_stream();
            let headers = if call.path == self.path { LATER_HEADERS } else { &call.headers };
            self.frame_header(HEADERS, END_HEADERS, stream, headers.len() + self.credentials.len());
            self.write.put_slice(headers);
            self.write.put_slice(self.credentials);
            let mut chunks = call.body.chunks(MAX_FRAME).peekable();
            while let Some(chunk) = chunks.next() {
                let flags = if chunks.peek().is_none() { END_STREAM } else { 0 };
                self.frame(DATA, flags, stream, chunk);
            }
            count += 1;
        }
        self.send().await;
        let (answered, last) = self.ends(count).await;
        assert_eq!(answered, count, "calls have failed");
        last
    }

    fn next_stream(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }

    async fn send(&mut self) {
        self.io.write_all(&self.write).await.expect("the server reads");
        self.write.clear();
    }

    /// Reads until `count` streams have ended. Returns how many of them were more than trailers,
    /// and the last DATA.
    async fn ends(&mut self, count: u32) -> (u32, Bytes) {
        let (mut begun, mut ended, mut last) = (0, 0, BytesMut::new());
        while ended < count {
            while self.read.len() < FRAME_HEADER || self.read.len() < self.frame_len() {
                let read = self.io.read_buf(&mut self.read).await.expect("the server writes");
                assert!(read > 0, "the server has closed the connection");
            }
            let mut frame = self.read.split_to(self.frame_len());
            match (frame[3], frame[4]) {
                (DATA, _) => {
                    last = frame.split_off(FRAME_HEADER);
                    self.received += last.len() as u32;
                }
                (HEADERS, flags) if flags & END_STREAM != 0 => ended += 1,
                (HEADERS, _) => begun += 1,
                (RST_STREAM | GOAWAY, _) => panic!("the server has refused: {frame:?}"),
                _ => {}
            }
        }
        if self.received > MAX_WINDOW / 2 {
            let received = std::mem::take(&mut self.received);
            self.frame(WINDOW_UPDATE, 0, 0, &received.to_be_bytes());
        }
        (begun, last.freeze())
    }

    fn frame_len(&self) -> usize {
        let length = self.read[..3].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        FRAME_HEADER + length
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.frame_header(kind, flags, stream, payload.len());
        self.write.put_slice(payload);
    }

    fn frame_header(&mut self, kind: u8, flags: u8, stream: u32, len: usize) {
        self.write.put_uint(len as u64, 3);
        self.write.put_slice(&[kind, flags]);
        self.write.put_u32(stream);
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
    block.extend_from_slice(b"\x40\x02te\x08trailers");
    block
}

/// The same as indices (RFC 7541, 6.1): 62 is the entry made last.
const LATER_HEADERS: &[u8] = &[0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62];

/// A call that puts no more than this into the dynamic table.
fn authorization_header(value: &str) -> Vec<u8> {
    // The path and the content type stay out of it.
    let mut block = vec![0x83, 0x86, 4];
    put_text(&mut block, "/");
    block.extend_from_slice(&[0x0f, 31 - 0x0f]);
    put_text(&mut block, "application/grpc");
    block.push(0x40 | 23);
    put_text(&mut block, value);
    block
}

/// That header as an index.
const AUTHORIZATION: &[u8] = &[0x80 | 67];

/// The headers of a call with another path, which stays out of the table (RFC 7541, 6.2.2).
fn headers_with(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 4];
    put_text(&mut block, path);
    block.extend_from_slice(&LATER_HEADERS[3..]);
    block
}

/// The length is an integer with a prefix of seven bits (RFC 7541, 5.1).
fn put_text(block: &mut Vec<u8>, text: &str) {
    const PREFIX: usize = 127;
    block.push(text.len().min(PREFIX) as u8);
    if let Some(mut rest) = text.len().checked_sub(PREFIX) {
        while rest >= 128 {
            block.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend_from_slice(text.as_bytes());
}

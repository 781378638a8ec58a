//! A client that is nothing but bytes: for what no HTTP/2 library sends, or leaves unanswered.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::patiently;

// Types of frames (RFC 9113, 6).
pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const PRIORITY: u8 = 0x2;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const PING: u8 = 0x6;
pub const GOAWAY: u8 = 0x7;
pub const CONTINUATION: u8 = 0x9;
pub const UNKNOWN: u8 = 0xee;

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

pub const ENHANCE_YOUR_CALM: u32 = 0xb;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame that came from the server.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The last stream, the code and the debug data of a GOAWAY.
    pub fn goaway(&self) -> Option<(u32, u32, &[u8])> {
        let (head, debug) = self.payload.split_at_checked(8).filter(|_| self.kind == GOAWAY)?;
        let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        Some((number(0), number(4), debug))
    }
}

pub struct Raw<T> {
    io: T,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Raw<T> {
    /// Goes through the handshake, and on from there answers nothing by itself.
    pub async fn connect(io: T) -> Self {
        let mut raw = Self { io };
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, ACK, 0, &[])].concat();
        raw.send(&hello).await;
        // What the server sends first, and its acknowledgement of ours.
        while !raw.next().await.is_some_and(|frame| frame.kind == SETTINGS && frame.flags == ACK) {}
        raw
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        patiently(self.io.write_all(bytes)).await.unwrap();
    }

    /// The next frame, or `None` when the connection is closed. It waits for ever.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.io.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// The next frame of this type, which must come.
    pub async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection is still open");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Sends this many times the same for as long as the server takes it, and gives the code and
    /// the debug data of the GOAWAY with which the server closes.
    pub async fn flood(self, bytes: &[u8], times: usize) -> (u32, String) {
        let (reader, mut writer) = tokio::io::split(self.io);
        let write = async {
            for _ in 0..times {
                if writer.write_all(bytes).await.is_err() {
                    break;
                }
            }
        };
        let read = async {
            let mut raw = Raw { io: tokio::io::join(reader, tokio::io::sink()) };
            let mut end = None;
            while let Some(frame) = raw.next().await {
                let goaway = frame.goaway();
                end = goaway.map(|(_, code, debug)| (code, utf8(debug))).or(end);
            }
            end
        };
        let ((), end) = patiently(async { tokio::join!(write, read) }).await;
        end.expect("the server says GOAWAY before it closes")
    }
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The HEADERS that open a call, without Huffman codes and the dynamic table (RFC 7541, 6.2.2).
pub fn headers(stream: u32, flags: u8, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", path),
        ("content-type", "application/grpc"),
    ] {
        block.extend([0, name.len() as u8]);
        block.extend(name.as_bytes());
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    }
    frame(HEADERS, flags, stream, &block)
}

/// A whole call with one message.
pub fn call(stream: u32, path: &str, message: &str) -> Vec<u8> {
    let message = super::peer::framed(message);
    [headers(stream, END_HEADERS, path), frame(DATA, END_STREAM, stream, &message)].concat()
}

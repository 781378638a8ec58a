//! The events that a server reports to its calls, and the frames that it sends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use balafon::hpack::{Decoder, Pair};
use bytes::{Bytes, BytesMut};

use crate::wire::{self, Head};

/// All that has happened since the last observation.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Seen {
    pub requests: Vec<Request>,
    /// The data of requests, by their streams.
    pub data: BTreeMap<u32, BytesMut>,
    pub ends: BTreeSet<(u32, End)>,
    pub sent: Sent,
    /// Set once the connection is over.
    pub closed: Option<Closed>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub stream: u32,
    pub method: String,
    pub uri: String,
    /// In their order.
    pub headers: Vec<Pair>,
}

impl Request {
    pub fn new(stream: u32, parts: &http::request::Parts) -> Self {
        let pair = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())
        };
        Self {
            stream,
            method: parts.method.to_string(),
            uri: parts.uri.to_string(),
            headers: parts.headers.iter().map(pair).collect(),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, method, uri, headers } = self;
        write!(f, "{stream}: {method} {uri} {:?}", printable(headers))
    }
}

pub fn printable(fields: &[Pair]) -> Vec<(Bytes, Bytes)> {
    fields.iter().map(|(name, value)| (name.clone().into(), value.clone().into())).collect()
}

/// How a request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// By END_STREAM.
    Complete,
    /// By the client's RST_STREAM, with its code.
    ClientReset(u32),
    /// By an RST_STREAM of the server, whose code is in [`Sent`].
    ServerReset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// An error with a code (RFC 9113, 5.4.1).
    Error(u32),
    /// Without an error.
    Gracefully,
}

/// The frames of the server, except for its SETTINGS and for WINDOW_UPDATE.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Stream IDs and codes.
    pub resets: BTreeSet<(u32, u32)>,
    /// Header lists, and whether they end the stream.
    pub headers: BTreeMap<u32, Vec<(Vec<Pair>, bool)>>,
    /// The length of the DATA, and whether it has ended the stream.
    pub data: BTreeMap<u32, (usize, bool)>,
    pub pongs: Vec<Bytes>,
    pub settings_acks: usize,
    pub go_aways: Vec<u32>,
}

/// The server's bytes, read by its client.
pub struct Wire {
    unread: Vec<u8>,
    decoder: Decoder,
    /// The windows that the server has announced, without the DATA that the client has sent.
    connection_window: i64,
    stream_windows: BTreeMap<u32, i64>,
    /// The window of a new stream.
    initial_window: i64,
}

impl Wire {
    pub fn new(initial_window: u32) -> Self {
        Self {
            unread: Vec::new(),
            decoder: Decoder::new(),
            // RFC 9113, 6.9.2.
            connection_window: 65_535,
            stream_windows: BTreeMap::new(),
            initial_window: i64::from(initial_window),
        }
    }

    /// Takes DATA of the client from the windows. Returns the bytes that are left of the
    /// connection's window, and of the stream's.
    pub fn client_sent(&mut self, stream: u32, length: usize) -> (i64, i64) {
        let window = self.stream_windows.entry(stream).or_insert(self.initial_window);
        *window -= length as i64;
        self.connection_window -= length as i64;
        (self.connection_window, *window)
    }

    pub fn windows(&self) -> (i64, &BTreeMap<u32, i64>) {
        (self.connection_window, &self.stream_windows)
    }

    pub fn receive(&mut self, bytes: &[u8], sent: &mut Sent) {
        self.unread.extend_from_slice(bytes);
        let unread = std::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        let mut block = Vec::new();
        while let Some((head, payload, behind)) = Head::split(rest) {
            self.frame(&head, payload, &mut block, sent);
            rest = behind;
        }
        assert!(block.is_empty(), "a header block that has no end");
        self.unread = rest.to_vec();
    }

    fn frame(&mut self, head: &Head, payload: &[u8], block: &mut Vec<u8>, sent: &mut Sent) {
        let Head { kind, flags, stream, .. } = *head;
        let number = |at| {
            let bytes = payload.get(at..at + 4).and_then(<[u8]>::first_chunk);
            u32::from_be_bytes(*bytes.expect("a frame is long enough"))
        };
        assert!(payload.len() <= 1 << 24, "a frame is longer than the client permits");
        match kind {
            wire::HEADERS | wire::CONTINUATION => {
                block.extend_from_slice(payload);
                // Of HEADERS; a block that is continued keeps it in its first byte.
                if kind == wire::HEADERS {
                    block.insert(0, flags & wire::END_STREAM);
                }
                if flags & wire::END_HEADERS != 0 {
                    let fields = self.decoder.decode(&block[1..]).expect("a valid header block");
                    sent.headers.entry(stream).or_default().push((fields, block[0] != 0));
                    block.clear();
                }
            }
            wire::DATA => {
                let (length, end) = sent.data.entry(stream).or_default();
                *length += payload.len();
                assert!(!*end, "DATA on stream {stream} after its end");
                *end = flags & wire::END_STREAM != 0;
            }
            wire::RST_STREAM => {
                sent.resets.insert((stream, number(0)));
            }
            wire::SETTINGS if flags & 1 != 0 => sent.settings_acks += 1,
            wire::SETTINGS => {}
            wire::PING => {
                assert_eq!(flags, 1, "the server has no reason for a PING");
                sent.pongs.push(Bytes::copy_from_slice(payload));
            }
            wire::GOAWAY => sent.go_aways.push(number(4)),
            wire::WINDOW_UPDATE if stream == 0 => self.connection_window += i64::from(number(0)),
            wire::WINDOW_UPDATE => {
                let window = self.stream_windows.entry(stream).or_insert(self.initial_window);
                *window += i64::from(number(0));
            }
            _ => panic!("a frame of type {kind}"),
        }
    }
}

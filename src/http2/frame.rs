//! The frames of HTTP/2: their header, and the functions that write them (RFC 9113, 4 and 6).

use super::error_code::ErrorCode;
use super::policy::ObservedFrame;

/// The bytes that a client sends first (RFC 9113, 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of a frame header, in bytes.
pub(crate) const HEAD_LEN: usize = 9;

/// The longest payload that this server accepts: the default of SETTINGS_MAX_FRAME_SIZE.
pub(crate) const MAX_FRAME_SIZE: usize = 16_384;

/// The largest window, and the largest stream ID.
pub(crate) const MAX_31_BITS: u32 = (1 << 31) - 1;

/// The types of frames (RFC 9113, 6; PRIORITY_UPDATE: RFC 9218, 7).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0x0;
    pub(crate) const HEADERS: u8 = 0x1;
    pub(crate) const PRIORITY: u8 = 0x2;
    pub(crate) const RST_STREAM: u8 = 0x3;
    pub(crate) const SETTINGS: u8 = 0x4;
    pub(crate) const PUSH_PROMISE: u8 = 0x5;
    pub(crate) const PING: u8 = 0x6;
    pub(crate) const GOAWAY: u8 = 0x7;
    pub(crate) const WINDOW_UPDATE: u8 = 0x8;
    pub(crate) const CONTINUATION: u8 = 0x9;
    pub(crate) const PRIORITY_UPDATE: u8 = 0x10;
}

/// The flags of frames.
pub(crate) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// The identifiers of settings (RFC 9113, 6.5.2).
pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 0x1;
    pub(crate) const ENABLE_PUSH: u16 = 0x2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 0x5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 0x6;
}

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The length of the payload, in bytes.
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    pub(crate) fn parse(bytes: &[u8; HEAD_LEN]) -> Self {
        let [a, b, c, kind, flags, s, t, u, v] = *bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            // The reserved bit is ignored (RFC 9113, 4.1).
            stream: u32::from_be_bytes([s, t, u, v]) & MAX_31_BITS,
        }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The frame as a policy sees it, before its payload has arrived.
    pub(crate) fn observed(&self) -> ObservedFrame {
        match self.kind {
            kind::HEADERS => ObservedFrame::Headers {
                stream: self.stream,
                end: self.has(flag::END_STREAM),
                length: self.length,
            },
            kind::CONTINUATION => ObservedFrame::Continuation(self.length),
            kind::DATA => ObservedFrame::Data(self.length),
            kind::PING if !self.has(flag::ACK) => ObservedFrame::Ping,
            kind::SETTINGS if !self.has(flag::ACK) => ObservedFrame::Settings,
            kind::RST_STREAM => ObservedFrame::Reset(ErrorCode::NO_ERROR),
            _ => ObservedFrame::Other,
        }
    }
}

/// Reads a number of 31 bits, and ignores the reserved bit.
pub(crate) fn number(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & MAX_31_BITS
}

fn head(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD_LEN] {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [s, t, u, v] = stream.to_be_bytes();
    [a, b, c, kind, flags, s, t, u, v]
}

/// Appends a frame header.
fn put_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&head(length, kind, flags, stream));
}

/// Appends the header of a DATA frame with `length` bytes, which have to follow.
pub(crate) fn put_data_head(out: &mut Vec<u8>, length: usize, stream: u32, end: bool) {
    let flags = if end { flag::END_STREAM } else { 0 };
    put_head(out, length, kind::DATA, flags, stream);
}

pub(crate) fn put_reset(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    put_head(out, 4, kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&code.0.to_be_bytes());
}

pub(crate) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_head(out, settings.len() * 6, kind::SETTINGS, 0, 0);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(crate) fn put_settings_ack(out: &mut Vec<u8>) {
    put_head(out, 0, kind::SETTINGS, flag::ACK, 0);
}

pub(crate) fn put_ping(out: &mut Vec<u8>, opaque: [u8; 8], ack: bool) {
    put_head(out, 8, kind::PING, if ack { flag::ACK } else { 0 }, 0);
    out.extend_from_slice(&opaque);
}

pub(crate) fn put_go_away(out: &mut Vec<u8>, last_stream: u32, code: ErrorCode, debug: &str) {
    put_head(out, 8 + debug.len(), kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(debug.as_bytes());
}

pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    put_head(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&increment.to_be_bytes());
}

/// Turns a header block that was appended to `out` at `start` into a HEADERS frame, followed by
/// CONTINUATION frames if the block is longer than `max` bytes. The space for the first frame
/// header lies before the block.
pub(crate) fn finish_headers(out: &mut Vec<u8>, start: usize, max: usize, stream: u32, end: bool) {
    let end_stream = if end { flag::END_STREAM } else { 0 };
    let length = out.len() - start - HEAD_LEN;
    if length <= max {
        let flags = end_stream | flag::END_HEADERS;
        out[start..start + HEAD_LEN].copy_from_slice(&head(length, kind::HEADERS, flags, stream));
        return;
    }
    let block = out.split_off(start + HEAD_LEN);
    out.truncate(start);
    let mut rest = &block[..];
    let (mut kind, mut flags) = (kind::HEADERS, end_stream);
    while !rest.is_empty() {
        let (part, left) = rest.split_at(rest.len().min(max));
        if left.is_empty() {
            flags |= flag::END_HEADERS;
        }
        put_head(out, part.len(), kind, flags, stream);
        out.extend_from_slice(part);
        (rest, kind, flags) = (left, kind::CONTINUATION, 0);
    }
}

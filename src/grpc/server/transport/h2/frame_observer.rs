//! Parses the frames of one direction of a connection, sans I/O. h2 handles SETTINGS, PING and
//! other frames without reporting them. The enforcement policy needs them.

use crate::http2::error_code::ErrorCode;
use crate::http2::frame::{HEAD_LEN, Head, PREFACE, flag, kind, setting};
use crate::http2::policy::ObservedFrame;

/// The payload of an RST_STREAM (RFC 9113, 6.4).
const RESET_LEN: usize = 4;

/// Splits a byte stream into frames. It buffers at most one frame header or one setting.
///
/// ```text
///  Skip(preface) ---> Header ---> Skip(payload) ---.
///                       ^  |----> Settings(payload) |
///                       |  `----> Reset             |
///                       `---------------------------'
/// ```
#[derive(Debug)]
pub(super) struct FrameObserver {
    state: State,
    /// The incomplete frame header, setting or error code.
    gathered: [u8; HEAD_LEN],
    filled: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Skip(usize),
    Header,
    /// In a SETTINGS payload with this many bytes left. A setting has six bytes.
    Settings(usize),
    /// Before the error code of an RST_STREAM.
    Reset,
}

impl FrameObserver {
    /// Observes a client, from its preface on.
    pub(super) fn of_client() -> Self {
        Self { state: State::Skip(PREFACE.len()), gathered: [0; HEAD_LEN], filled: 0 }
    }

    /// Observes a server.
    pub(super) fn of_server() -> Self {
        Self { state: State::Header, gathered: [0; HEAD_LEN], filled: 0 }
    }

    /// Reads more bytes. Calls `seen` for each frame when its header is complete; for RST_STREAM,
    /// when its error code is.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut seen: impl FnMut(ObservedFrame)) {
        while !bytes.is_empty() {
            match self.state {
                State::Skip(left) => {
                    let count = left.min(bytes.len());
                    bytes = &bytes[count..];
                    self.state =
                        if count == left { State::Header } else { State::Skip(left - count) };
                }
                State::Header => {
                    if let Some(header) = self.gather(&mut bytes) {
                        self.state = after_header(&header, &mut seen);
                    }
                }
                State::Settings(left) => {
                    if let Some([a, b, c, d, e, f]) = self.gather(&mut bytes) {
                        if u16::from_be_bytes([a, b]) == setting::MAX_HEADER_LIST_SIZE {
                            seen(ObservedFrame::MaxHeaderListSize(u32::from_be_bytes([
                                c, d, e, f,
                            ])));
                        }
                        self.state = payload(left - 6, State::Settings);
                    }
                }
                State::Reset => {
                    if let Some(code) = self.gather::<RESET_LEN>(&mut bytes) {
                        seen(ObservedFrame::Reset(ErrorCode(u32::from_be_bytes(code))));
                        self.state = State::Header;
                    }
                }
            }
        }
    }

    /// Takes the next `COUNT` bytes when all of them have arrived.
    fn gather<const COUNT: usize>(&mut self, bytes: &mut &[u8]) -> Option<[u8; COUNT]> {
        if self.filled == 0
            && let Some((gathered, rest)) = bytes.split_first_chunk()
        {
            *bytes = rest;
            return Some(*gathered);
        }
        let part = bytes.len().min(COUNT - self.filled);
        self.gathered[self.filled..self.filled + part].copy_from_slice(&bytes[..part]);
        *bytes = &bytes[part..];
        self.filled += part;
        let gathered = self.gathered.first_chunk().filter(|_| self.filled == COUNT)?;
        self.filled = 0;
        Some(*gathered)
    }
}

fn after_header(header: &[u8; HEAD_LEN], seen: &mut impl FnMut(ObservedFrame)) -> State {
    let head = Head::parse(header);
    match head.kind {
        kind::RST_STREAM if head.length == RESET_LEN => return State::Reset,
        kind::SETTINGS if !head.has(flag::ACK) && head.length.is_multiple_of(6) => {
            seen(head.observed());
            return payload(head.length, State::Settings);
        }
        // Of a wrong length.
        kind::RST_STREAM | kind::SETTINGS => seen(ObservedFrame::Other),
        _ => seen(head.observed()),
    }
    payload(head.length, State::Skip)
}

fn payload(length: usize, state: fn(usize) -> State) -> State {
    if length == 0 { State::Header } else { state(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn frame_observer_parses_any_split_of_the_bytes() {
        let settings = [[0, 3, 0, 0, 0, 100], [0, 6, 0, 0, 32, 0]].concat();
        let wire = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(0x4, 0, 0, &settings),
            frame(0x4, flag::ACK, 0, &[]),
            frame(0x1, 0x4, 1, &[0x82; 30]),
            frame(0x0, 0x1, 1, &[0; 300]),
            frame(0x6, 0, 0, &[7; 8]),
            frame(0x6, flag::ACK, 0, &[7; 8]),
            frame(0x2, 0, 3, &[0; 5]),
            frame(0xee, 0, 0, &[]),
            frame(0x3, 0, 1, &[0, 0, 0, 8]),
            frame(0x3, 0, 1, &[0, 0, 8]),
            frame(0x1, 0x1, 5, &[]),
            frame(0x9, 0x4, 5, &[0x82; 3]),
        ]
        .concat();
        let expected = [
            ObservedFrame::Settings,
            ObservedFrame::MaxHeaderListSize(8192),
            ObservedFrame::Other,
            ObservedFrame::Headers { stream: 1, end: false, length: 30 },
            ObservedFrame::Data(300),
            ObservedFrame::Ping,
            ObservedFrame::Other,
            ObservedFrame::Other,
            ObservedFrame::Other,
            ObservedFrame::Reset(ErrorCode::CANCEL),
            ObservedFrame::Other,
            ObservedFrame::Headers { stream: 5, end: true, length: 0 },
            ObservedFrame::Continuation(3),
        ];
        for step in 1..=wire.len() {
            let mut observer = FrameObserver::of_client();
            let mut all = Vec::new();
            wire.chunks(step).for_each(|chunk| observer.read(chunk, |seen| all.push(seen)));
            assert_eq!(all, expected, "in chunks of {step}");
        }
    }
}

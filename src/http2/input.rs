//! Splits the client's bytes into frames. At most one frame other than DATA is buffered.

use std::borrow::Cow;

use super::connection::ConnectionError;
use super::error_code::ErrorCode;
use super::frame::{HEAD_LEN, Head, MAX_FRAME_SIZE, PREFACE, flag, kind};

/// The client's input, split into frames.
///
/// ```text
///  Preface ---> Head ---> Payload ----.
///                ^ |----> Data        |   Data: without padding, passed on as it arrives
///                | `------------------|
///                `--------------------'
/// ```
#[derive(Debug)]
pub(super) struct Input {
    state: State,
    /// The incomplete frame header or payload.
    gathered: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The number of bytes of the preface that have arrived.
    Preface(usize),
    Head,
    Payload(Head),
    /// The bytes of the DATA frame that have not arrived.
    Data(Head, usize),
}

/// The next part of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A frame begins. [`Piece::Payload`] or [`Piece::Data`] follows.
    Head(Head),
    /// The whole payload of a frame.
    Payload(Head, Cow<'a, [u8]>),
    /// A part of a DATA frame, and whether it is the last part.
    Data(Head, &'a [u8], bool),
}

impl Input {
    pub(super) fn new() -> Self {
        Self { state: State::Preface(0), gathered: Vec::new() }
    }

    /// Whether the preface has arrived.
    pub(super) fn has_preface(&self) -> bool {
        !matches!(self.state, State::Preface(_))
    }

    /// Returns the next piece of `bytes`, and removes it there. Returns `None` if more bytes are
    /// needed.
    ///
    /// # Errors
    /// The preface is wrong, or a frame is too long.
    pub(super) fn next<'a>(
        &mut self,
        bytes: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, ConnectionError> {
        if let State::Preface(seen) = self.state {
            let expected = &PREFACE[seen..];
            let count = expected.len().min(bytes.len());
            if expected[..count] != bytes[..count] {
                return Err(ConnectionError::protocol("the connection preface is invalid (3.4)"));
            }
            *bytes = &bytes[count..];
            self.state = State::Preface(seen + count);
            if seen + count < PREFACE.len() {
                return Ok(None);
            }
            self.state = State::Head;
        }
        match self.state {
            State::Preface(_) => Ok(None),
            State::Head => {
                let head = match bytes.split_first_chunk() {
                    Some((head, rest)) if self.gathered.is_empty() => {
                        *bytes = rest;
                        Head::parse(head)
                    }
                    _ => {
                        let Some(gathered) = self.gather(bytes, HEAD_LEN) else { return Ok(None) };
                        let Some(head) = gathered.first_chunk() else { return Ok(None) };
                        Head::parse(head)
                    }
                };
                if head.length > MAX_FRAME_SIZE {
                    return Err(ConnectionError::new(
                        ErrorCode::FRAME_SIZE_ERROR,
                        "a frame is longer than SETTINGS_MAX_FRAME_SIZE (4.2)",
                    ));
                }
                let streamed = head.kind == kind::DATA && !head.has(flag::PADDED);
                self.state =
                    if streamed { State::Data(head, head.length) } else { State::Payload(head) };
                Ok(Some(Piece::Head(head)))
            }
            State::Payload(head) => {
                let payload = if self.gathered.is_empty() && bytes.len() >= head.length {
                    let (payload, rest) = bytes.split_at(head.length);
                    *bytes = rest;
                    Cow::Borrowed(payload)
                } else {
                    let Some(gathered) = self.gather(bytes, head.length) else { return Ok(None) };
                    Cow::Owned(gathered)
                };
                self.state = State::Head;
                Ok(Some(Piece::Payload(head, payload)))
            }
            State::Data(_, left) if bytes.is_empty() && left > 0 => Ok(None),
            State::Data(head, left) => {
                let (part, rest) = bytes.split_at(left.min(bytes.len()));
                *bytes = rest;
                let left = left - part.len();
                self.state = if left == 0 { State::Head } else { State::Data(head, left) };
                Ok(Some(Piece::Data(head, part, left == 0)))
            }
        }
    }

    /// Moves bytes to the gathered ones. Returns these once they are `length` bytes.
    fn gather(&mut self, bytes: &mut &[u8], length: usize) -> Option<Vec<u8>> {
        let count = bytes.len().min(length.saturating_sub(self.gathered.len()));
        let (part, rest) = bytes.split_at(count);
        self.gathered.extend_from_slice(part);
        *bytes = rest;
        (self.gathered.len() == length).then(|| std::mem::take(&mut self.gathered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All pieces of the input, with the parts of DATA frames joined.
    fn pieces(chunks: &[&[u8]]) -> Result<Vec<(Head, Vec<u8>)>, ConnectionError> {
        let mut input = Input::new();
        let (mut pieces, mut data) = (Vec::new(), Vec::new());
        for chunk in chunks {
            let mut bytes = *chunk;
            while let Some(piece) = input.next(&mut bytes)? {
                match piece {
                    Piece::Head(_) => {}
                    Piece::Payload(head, payload) => pieces.push((head, payload.into_owned())),
                    Piece::Data(head, part, last) => {
                        data.extend_from_slice(part);
                        if last {
                            pieces.push((head, std::mem::take(&mut data)));
                        }
                    }
                }
            }
            assert!(bytes.is_empty());
        }
        Ok(pieces)
    }

    fn sample() -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        crate::http2::frame::put_settings(&mut bytes, &[(1, 2), (3, 4)]);
        crate::http2::frame::put_data_head(&mut bytes, 3, 1, false);
        bytes.extend_from_slice(b"abc");
        crate::http2::frame::put_data_head(&mut bytes, 0, 3, true);
        crate::http2::frame::put_ping(&mut bytes, [7; 8], false);
        bytes
    }

    #[test]
    fn input_gives_the_same_frames_for_every_split() {
        let bytes = sample();
        let whole = pieces(&[&bytes]).unwrap();
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[1].1, b"abc");
        for at in 0..=bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(pieces(&[first, second]).unwrap(), whole, "split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(pieces(&single).unwrap(), whole);
    }

    #[test]
    fn input_refuses_a_wrong_preface() {
        let error = pieces(&[b"PRI * HTTP/2.1"]).unwrap_err();
        assert_eq!(error.code, ErrorCode::PROTOCOL_ERROR);
    }

    #[test]
    fn input_refuses_a_frame_over_the_limit() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend_from_slice(&[0, 0x40, 1, 0xfe, 0, 0, 0, 0, 0]);
        assert_eq!(pieces(&[&bytes]).unwrap_err().code, ErrorCode::FRAME_SIZE_ERROR);
    }
}

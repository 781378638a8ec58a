use super::streams::Failure;
use super::{Connection, ConnectionError};
use crate::http2::error_code::ErrorCode;
use crate::http2::frame::{self, Head, flag, kind};
use crate::http2::input::Piece;
use crate::http2::policy::{ObservedFrame, Policy, Violation};

/// Why the connection parses nothing more.
pub(super) enum Stop {
    Error(ConnectionError),
    Violation,
}

impl From<ConnectionError> for Stop {
    fn from(error: ConnectionError) -> Self {
        Self::Error(error)
    }
}

impl From<Violation> for Stop {
    fn from(Violation: Violation) -> Self {
        Self::Violation
    }
}

/// A frame that exceeds the payload of its type.
pub(super) const WRONG_LENGTH: ConnectionError = ConnectionError {
    code: ErrorCode::FRAME_SIZE_ERROR,
    reason: "a frame has a length that its type does not permit (4.2)",
};

impl<P: Policy> Connection<P> {
    /// Handles frames, and removes them from `bytes`, until the turn is over.
    pub(super) fn receive_frames(&mut self, bytes: &mut &[u8]) -> Result<(), Stop> {
        while !self.policy.turn_is_over()
            && let Some(piece) = self.input.next(bytes)?
        {
            match piece {
                Piece::Head(head) => self.begin(&head)?,
                Piece::Payload(head, payload) => self.frame(&head, &payload)?,
                Piece::Data(head, part, last) => self.data_part(&head, part, last),
            }
        }
        Ok(())
    }

    /// Judges a frame by its header, before its payload is parsed.
    fn begin(&mut self, head: &Head) -> Result<(), Stop> {
        if self.block.as_ref().map(|block| block.head.stream)
            != (head.kind == kind::CONTINUATION).then_some(head.stream)
        {
            return Err(ConnectionError::protocol("a header block is interrupted (6.10)").into());
        }
        if !self.peer.received && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(ConnectionError::protocol("the first frame is not SETTINGS (3.4)").into());
        }
        let observed = head.observed();
        self.policy.received(observed)?;
        if observed == ObservedFrame::Data(0) && !head.has(flag::END_STREAM) {
            // It achieves nothing (RFC 9113, 10.5).
            self.policy.received(ObservedFrame::Other)?;
        }
        if head.kind == kind::DATA && !head.has(flag::PADDED) {
            self.data_target = self.begin_data(head, head.length)?;
        }
        Ok(())
    }

    /// Handles a frame whose payload is complete.
    fn frame(&mut self, head: &Head, payload: &[u8]) -> Result<(), ConnectionError> {
        match head.kind {
            kind::DATA => self.padded_data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::PRIORITY => self.priority(head, payload),
            kind::RST_STREAM => self.reset_by_client(head, payload),
            kind::SETTINGS if head.stream != 0 => {
                Err(ConnectionError::protocol("SETTINGS is on a stream (6.5)"))
            }
            kind::SETTINGS if !head.has(flag::ACK) => self.receive_settings(payload),
            kind::SETTINGS if payload.is_empty() => Ok(()),
            kind::SETTINGS => Err(WRONG_LENGTH),
            kind::PUSH_PROMISE => Err(ConnectionError::protocol("a client cannot push (8.4)")),
            kind::PING | kind::GOAWAY | kind::PRIORITY_UPDATE if head.stream != 0 => Err(
                ConnectionError::protocol("a frame of the connection is on a stream (6.7, 6.8)"),
            ),
            kind::PING => {
                let opaque = payload.try_into().map_err(|_| WRONG_LENGTH)?;
                self.receive_ping(opaque, head.has(flag::ACK));
                Ok(())
            }
            kind::GOAWAY => self.receive_go_away(payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            // RFC 9113, 5.5: unknown types are ignored. So are priorities (RFC 9218).
            _ => Ok(()),
        }
    }

    fn priority(&mut self, head: &Head, payload: &[u8]) -> Result<(), ConnectionError> {
        if head.stream == 0 {
            return Err(ConnectionError::protocol("PRIORITY is on stream 0 (6.3)"));
        }
        let error = match *payload {
            [a, b, c, d, _] if frame::number([a, b, c, d]) == head.stream => {
                ErrorCode::PROTOCOL_ERROR
            }
            [_, _, _, _, _] => return Ok(()),
            _ => ErrorCode::FRAME_SIZE_ERROR,
        };
        match self.streams.find(head.stream) {
            Some(key) => self.stream_error(key, error, "PRIORITY is invalid (6.3)"),
            None => {
                // The error closes the stream, also if it was idle (5.4.2).
                self.put_reset(head.stream, error);
                self.resets.add(head.stream, self.now);
                if head.stream % 2 == 1 {
                    self.last_stream = self.last_stream.max(head.stream);
                }
            }
        }
        Ok(())
    }

    fn reset_by_client(&mut self, head: &Head, payload: &[u8]) -> Result<(), ConnectionError> {
        let code: [u8; 4] = payload.try_into().map_err(|_| WRONG_LENGTH)?;
        if let Some(key) = self.find(head.stream, "RST_STREAM is on an idle stream (5.1)")? {
            self.fail_stream(key, Failure::Reset(ErrorCode(u32::from_be_bytes(code))));
        }
        Ok(())
    }
}

/// Splits the payload of DATA or HEADERS into the length of its padding and the rest (RFC 9113, 6.1).
pub(super) fn split_padding<'a>(
    head: &Head,
    payload: &'a [u8],
) -> Result<(usize, &'a [u8]), ConnectionError> {
    if !head.has(flag::PADDED) {
        return Ok((0, payload));
    }
    let (padding, rest) = payload.split_first().ok_or(WRONG_LENGTH)?;
    Ok((usize::from(*padding), rest))
}

/// Removes padding from the end.
pub(super) fn without_padding(padding: usize, payload: &[u8]) -> Result<&[u8], ConnectionError> {
    let length = payload.len().checked_sub(padding);
    let length = length.ok_or(ConnectionError::protocol("the padding exceeds the frame (6.1)"))?;
    Ok(&payload[..length])
}

//! The seam for an enforcement policy. The engine reports each frame before it handles the frame.

use super::error_code::ErrorCode;

/// A frame, reduced to the parts that a policy needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObservedFrame {
    /// HEADERS: the beginning or the end of a request or a response.
    Headers {
        /// The stream ID.
        stream: u32,
        /// Whether END_STREAM is set.
        end: bool,
        /// The length of the payload, in bytes.
        length: usize,
    },
    /// CONTINUATION, with the length of its payload in bytes.
    Continuation(usize),
    /// DATA, with its length in bytes, including padding.
    Data(usize),
    /// A PING without ACK.
    Ping,
    /// A SETTINGS frame without ACK.
    Settings,
    /// `SETTINGS_MAX_HEADER_LIST_SIZE` of a SETTINGS frame, in bytes.
    MaxHeaderListSize(u32),
    /// RST_STREAM.
    Reset(ErrorCode),
    /// Any other frame. It makes no progress in a call: PRIORITY, WINDOW_UPDATE, acknowledgements,
    /// unknown types.
    Other,
}

/// The policy has decided to close the connection. It knows the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Violation;

/// Judges the frames of a connection.
pub(crate) trait Policy {
    /// Judges a frame of the client, before its payload is parsed.
    ///
    /// # Errors
    /// The client has violated the policy. The connection parses nothing more.
    fn received(&mut self, frame: ObservedFrame) -> Result<(), Violation>;

    /// Records a frame of the server.
    fn sent(&mut self, frame: ObservedFrame);

    /// Whether other connections should be served before more frames are parsed.
    fn turn_is_over(&self) -> bool;
}

/// Permits everything.
#[cfg(any(test, fuzzing))]
pub(crate) struct Permissive;

#[cfg(any(test, fuzzing))]
impl Policy for Permissive {
    fn received(&mut self, _: ObservedFrame) -> Result<(), Violation> {
        Ok(())
    }

    fn sent(&mut self, _: ObservedFrame) {}

    fn turn_is_over(&self) -> bool {
        false
    }
}

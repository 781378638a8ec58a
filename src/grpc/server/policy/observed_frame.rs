use crate::http2::error_code::ErrorCode;

/// A frame, reduced to the parts that the policy needs.
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

//! How a call ends: a code, a message, and optional `google.rpc` details.

use std::borrow::Cow;
use std::fmt;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use prost_types::Any;

use super::code::Code;
use super::frame::FrameError;
use super::metadata::{InvalidMetadata, Metadata, encode_bin};
use crate::rpc;

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(crate) const GRPC_STATUS_DETAILS: HeaderName =
    HeaderName::from_static("grpc-status-details-bin");

/// The end of a call: a code, a message for the developer of the client, typed details
/// (`google.rpc`, see [`rpc`]) and trailing metadata.
///
/// ```
/// use balafon::rpc::BadRequest;
/// use balafon::{Code, Status};
///
/// let status = Status::invalid_argument("the user is not valid")
///     .with_detail(&BadRequest::new().violation("email", "must contain one '@'"));
/// assert_eq!(status.code(), Code::InvalidArgument);
/// let detail: BadRequest = status.detail().expect("it was added");
/// assert_eq!(detail.field_violations[0].field, "email");
/// ```
#[derive(Clone, PartialEq)]
pub struct Status {
    code: Code,
    message: Cow<'static, str>,
    /// Boxed, since few statuses have any and every `Result` of a handler is as large as this.
    extra: Option<Box<Extra>>,
}

#[derive(Clone, Default, PartialEq)]
struct Extra {
    details: Vec<Any>,
    metadata: Metadata,
    log_message: Option<Cow<'static, str>>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident = $code:ident;)+) => {
        $(
            $(#[$doc])*
            pub fn $name(message: impl Into<Cow<'static, str>>) -> Self {
                Self::new(Code::$code, message)
            }
        )+
    };
}

impl Status {
    /// A status without details.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), extra: None }
    }

    /// Success.
    pub const fn ok() -> Self {
        Self { code: Code::Ok, message: Cow::Borrowed(""), extra: None }
    }

    constructors! {
        /// [`Code::Cancelled`].
        cancelled = Cancelled;
        /// [`Code::Unknown`].
        unknown = Unknown;
        /// [`Code::InvalidArgument`].
        invalid_argument = InvalidArgument;
        /// [`Code::DeadlineExceeded`].
        deadline_exceeded = DeadlineExceeded;
        /// [`Code::NotFound`].
        not_found = NotFound;
        /// [`Code::AlreadyExists`].
        already_exists = AlreadyExists;
        /// [`Code::PermissionDenied`].
        permission_denied = PermissionDenied;
        /// [`Code::ResourceExhausted`].
        resource_exhausted = ResourceExhausted;
        /// [`Code::FailedPrecondition`].
        failed_precondition = FailedPrecondition;
        /// [`Code::Aborted`].
        aborted = Aborted;
        /// [`Code::OutOfRange`].
        out_of_range = OutOfRange;
        /// [`Code::Unimplemented`].
        unimplemented = Unimplemented;
        /// [`Code::Internal`].
        internal = Internal;
        /// [`Code::Unavailable`].
        unavailable = Unavailable;
        /// [`Code::DataLoss`].
        data_loss = DataLoss;
        /// [`Code::Unauthenticated`].
        unauthenticated = Unauthenticated;
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The message; may be empty.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Gives logs and traces a text of their own. For messages that repeat what the client has sent,
    /// which may be personal data, and of any length.
    #[must_use]
    pub fn with_log_message(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.extra.get_or_insert_default().log_message = Some(text.into());
        self
    }

    /// What is to stand in logs and traces: the message, unless there is another text for them.
    pub fn log_message(&self) -> &str {
        let own = self.extra.as_ref().and_then(|extra| extra.log_message.as_deref());
        own.unwrap_or(&self.message)
    }

    /// Whether the call succeeded.
    pub fn is_ok(&self) -> bool {
        self.code == Code::Ok
    }

    /// Adds a detail, which travels in `grpc-status-details-bin`. A status of [`Code::Ok`]
    /// sends none.
    #[must_use]
    pub fn with_detail<D: prost::Name>(self, detail: &D) -> Self {
        self.with_any(Any { type_url: any_url::<D>(), value: detail.encode_to_vec() })
    }

    /// Adds a detail that is packed already, such as one that another server has sent.
    #[must_use]
    pub fn with_any(mut self, detail: Any) -> Self {
        self.extra.get_or_insert_default().details.push(detail);
        self
    }

    /// The first detail of type `D`, if there is one that can be decoded.
    pub fn detail<D: prost::Name + Default>(&self) -> Option<D> {
        let full_name = D::full_name();
        self.details()
            .iter()
            .find(|any| any.type_url.rsplit('/').next() == Some(&full_name))
            .and_then(|any| D::decode(any.value.as_slice()).ok())
    }

    /// All details, as they travel.
    pub fn details(&self) -> &[Any] {
        self.extra.as_ref().map_or(&[], |extra| &extra.details)
    }

    /// Adds metadata that is sent with the trailers.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.extra.get_or_insert_default().metadata.merge(metadata);
        self
    }

    /// Moves the trailing metadata out.
    pub(crate) fn take_metadata(&mut self) -> Metadata {
        self.extra.as_mut().map(|extra| std::mem::take(&mut extra.metadata)).unwrap_or_default()
    }

    /// Writes `grpc-status`, `grpc-message` and `grpc-status-details-bin`
    /// (PROTOCOL-HTTP2, "Responses").
    pub(crate) fn write_to(&self, trailers: &mut HeaderMap) {
        trailers.insert(GRPC_STATUS, self.code.header_value());
        let message = (!self.message.is_empty()).then(|| encode_message(&self.message));
        if !self.is_ok() && !self.details().is_empty() {
            let status = rpc::Status {
                code: self.code as i32,
                // As it is sent: the two must be equal also when it was cut.
                message: message
                    .as_ref()
                    .map_or_else(String::new, |m| decode_message(m.as_bytes())),
                details: self.details().to_vec(),
            };
            trailers.insert(GRPC_STATUS_DETAILS, encode_bin(&status.encode_to_vec()));
        }
        if let Some(message) = message {
            trailers.insert(GRPC_MESSAGE, message);
        }
    }
}

impl Status {
    /// Like [`write_to`](Self::write_to), for a client that accepts header lists of no more than
    /// `limit` bytes: without the details, the application's metadata and the end of the message,
    /// in this order, as far as needed. The code always stays.
    pub(crate) fn write_within(&self, limit: usize, headers: &mut HeaderMap) {
        self.write_to(headers);
        if list_size(headers) <= limit {
            return;
        }
        headers.remove(GRPC_STATUS_DETAILS);
        if list_size(headers) <= limit {
            return;
        }
        let content_type = headers.remove(CONTENT_TYPE);
        headers.clear();
        headers.extend(content_type.map(|value| (CONTENT_TYPE, value)));
        headers.insert(GRPC_STATUS, self.code.header_value());
        let room = limit.saturating_sub(list_size(headers) + entry_size(GRPC_MESSAGE.as_str(), 0));
        let message = encode_within(room, &self.message);
        if !message.is_empty() {
            headers.insert(GRPC_MESSAGE, message);
        }
    }
}

/// The size of a header list as RFC 9113 (6.5.2) counts it, with the `:status` that headers have.
fn list_size(headers: &HeaderMap) -> usize {
    let entries = headers.iter().map(|(name, value)| entry_size(name.as_str(), value.len()));
    entry_size(":status", 3) + entries.sum::<usize>()
}

fn entry_size(name: &str, value: usize) -> usize {
    name.len() + value + 32
}

/// `type.googleapis.com/` and the full name: the form that every client library packs and unpacks.
fn any_url<D: prost::Name>() -> String {
    format!("type.googleapis.com/{}", D::full_name())
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Status");
        shown.field("code", &self.code).field("message", &self.message);
        if let Some(extra) = &self.extra {
            let types: Vec<_> = extra.details.iter().map(|any| &any.type_url).collect();
            shown.field("details", &types).field("metadata", &extra.metadata);
        }
        shown.finish()
    }
}

impl std::error::Error for Status {}

impl From<FrameError> for Status {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLarge { .. } => Self::resource_exhausted(error.to_string()),
            _ => Self::internal(error.to_string()),
        }
    }
}

impl From<InvalidMetadata> for Status {
    fn from(error: InvalidMetadata) -> Self {
        Self::internal(error.to_string())
    }
}

/// The longest `grpc-message`, in bytes: half of what C-core and grpc-java accept as the whole header
/// list, beyond which they show the client a status of their own instead of the server's.
const MAX_MESSAGE_LEN: usize = 4 * 1024;

/// The `grpc-message` form of `message`: UTF-8 in which every byte outside 0x20 to 0x7E, and `%`,
/// is percent-encoded with upper-case digits (PROTOCOL-HTTP2, "Status-Message"). A message of which
/// that takes more than 4 KiB is cut, between two characters.
pub fn encode_message(message: &str) -> HeaderValue {
    encode_within(MAX_MESSAGE_LEN, message)
}

fn encode_within(max: usize, message: &str) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let plain = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b'%';
    let encoded = if message.len() <= max && message.bytes().all(plain) {
        HeaderValue::from_str(message)
    } else {
        let mut text = Vec::with_capacity(max.min(message.len() * 3));
        for character in message.chars() {
            let start = text.len();
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                if plain(byte) {
                    text.push(byte);
                } else {
                    text.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                }
            }
            if text.len() > max {
                text.truncate(start);
                break;
            }
        }
        HeaderValue::from_bytes(&text)
    };
    encoded.expect("printable ASCII is a header value")
}

/// The message that `value` encodes. Never fails: what is not a valid escape stands for itself,
/// and what is not UTF-8 then becomes U+FFFD, so that no message is lost to a sloppy peer.
pub fn decode_message(value: &[u8]) -> String {
    let digit = |at: usize| value.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(value.len());
    let mut at = 0;
    while let Some(&byte) = value.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::metadata::decode_bin;
    use crate::rpc::{BadRequest, ErrorInfo, RetryInfo};

    #[test]
    fn messages_are_percent_encoded_with_upper_case_hex() {
        for (message, encoded) in [
            ("plain text ~", "plain text ~"),
            ("100%", "100%25"),
            ("line\nbreak\t", "line%0Abreak%09"),
            ("é世\u{7f}", "%C3%A9%E4%B8%96%7F"),
        ] {
            assert_eq!(encode_message(message), encoded);
            assert_eq!(decode_message(encoded.as_bytes()), message);
        }
    }

    #[test]
    fn a_message_too_long_for_headers_is_cut_between_two_characters() {
        for (character, expected) in [("x", 4096), ("é", 4092 / 6), ("世", 4095 / 9)] {
            let encoded = encode_message(&character.repeat(5000));
            assert_eq!(decode_message(encoded.as_bytes()), character.repeat(expected));
        }
    }

    #[test]
    fn a_client_with_little_room_for_headers_still_gets_the_status() {
        let status = Status::not_found("m".repeat(1000)).with_detail(&ErrorInfo::default());
        let written = |limit| {
            let mut headers = HeaderMap::new();
            headers.insert("x-own", HeaderValue::from_static("metadata"));
            status.write_within(limit, &mut headers);
            assert_eq!(headers[GRPC_STATUS], "5");
            assert!(limit < 100 || list_size(&headers) <= limit);
            let message = headers.get(GRPC_MESSAGE).map_or(0, HeaderValue::len);
            let has = |name: HeaderName| headers.contains_key(name);
            (has(GRPC_STATUS_DETAILS), has(HeaderName::from_static("x-own")), message)
        };
        assert_eq!(written(8192), (true, true, 1000));
        assert_eq!(written(1300), (false, true, 1000));
        assert_eq!(written(1150), (false, false, 1000));
        assert_eq!(written(500), (false, false, 500 - 42 - 44 - 44));
        assert_eq!(written(0), (false, false, 0));
    }

    #[test]
    fn broken_escapes_stand_for_themselves() {
        for text in ["%", "%4", "%zz", "50%"] {
            assert_eq!(decode_message(text.as_bytes()), text);
        }
        assert_eq!(decode_message(b"%FF"), "\u{fffd}");
    }

    #[test]
    fn details_repeat_the_code_and_the_message() {
        let status = Status::not_found("é").with_detail(&ErrorInfo::default());
        let mut trailers = HeaderMap::new();
        status.write_to(&mut trailers);
        let bytes = decode_bin(trailers[GRPC_STATUS_DETAILS].as_bytes()).unwrap();
        let details = rpc::Status::decode(bytes).unwrap();
        assert_eq!((details.code, details.message.as_str()), (5, "é"));
        assert!(!trailers[GRPC_STATUS_DETAILS].to_str().unwrap().contains('='));
    }

    #[test]
    fn ok_is_sent_without_details() {
        let mut trailers = HeaderMap::new();
        Status::ok().with_detail(&ErrorInfo::default()).write_to(&mut trailers);
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers[GRPC_STATUS], "0");
    }

    #[test]
    fn details_are_found_by_their_type() {
        let status = Status::unavailable("later")
            .with_detail(&RetryInfo::after(std::time::Duration::from_millis(1500)))
            .with_detail(&BadRequest::new().violation("name", "must not be empty"));
        assert_eq!(status.detail::<BadRequest>().unwrap().field_violations.len(), 1);
        let retry: RetryInfo = status.detail().unwrap();
        assert_eq!(retry.delay(), Some(std::time::Duration::from_millis(1500)));
        assert!(status.detail::<ErrorInfo>().is_none());
    }
}

//! The status of a call: a code, a message, and optional `google.rpc` details.

use std::borrow::Cow;
use std::fmt;
use std::io;

use http::header::{HeaderMap, HeaderName};
use prost::Message;
use prost_types::Any;

use super::code::Code;
use super::frame::FrameError;
use super::metadata::{InvalidMetadata, Metadata, encode_bin};
pub use super::percent::{decode_message, encode_message};
use crate::google::rpc;

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(crate) const GRPC_STATUS_DETAILS: HeaderName =
    HeaderName::from_static("grpc-status-details-bin");

/// The status of a call. It has a code, a message for the client's developer, typed details
/// (`google.rpc`, see [`rpc`]) and trailing metadata.
///
/// ```
/// use balafon::google::rpc::BadRequest;
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
    /// Boxed, because few statuses have any, and the size of a status is part of every handler's
    /// `Result`.
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
    /// A status without details or metadata.
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

    /// Returns the code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the message, which may be empty.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Sets another text for logs and traces. Use it if the message repeats client input: that may
    /// be personal data, or very long.
    #[must_use]
    pub fn with_log_message(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.extra.get_or_insert_default().log_message = Some(text.into());
        self
    }

    /// Returns the text for logs and traces: the one that was set, otherwise the message.
    pub fn log_message(&self) -> &str {
        let own = self.extra.as_ref().and_then(|extra| extra.log_message.as_deref());
        own.unwrap_or(&self.message)
    }

    /// Whether the call succeeded.
    pub fn is_ok(&self) -> bool {
        self.code == Code::Ok
    }

    /// Adds a detail, which is sent in `grpc-status-details-bin`. A status with [`Code::Ok`] is
    /// sent without details.
    #[must_use]
    pub fn with_detail<D: prost::Name>(self, detail: &D) -> Self {
        self.with_any(Any { type_url: any_url::<D>(), value: detail.encode_to_vec() })
    }

    /// Adds a detail that is packed already, for example by another server.
    #[must_use]
    pub fn with_any(mut self, detail: Any) -> Self {
        self.extra.get_or_insert_default().details.push(detail);
        self
    }

    /// Returns the first detail of type `D`; `None` if there is none, or if it cannot be decoded.
    pub fn detail<D: prost::Name + Default>(&self) -> Option<D> {
        let full_name = D::full_name();
        self.details()
            .iter()
            .find(|any| any.type_url.rsplit('/').next() == Some(&full_name))
            .and_then(|any| D::decode(any.value.as_slice()).ok())
    }

    /// Returns all details in their packed form.
    pub fn details(&self) -> &[Any] {
        self.extra.as_ref().map_or(&[], |extra| &extra.details)
    }

    /// Returns the metadata that is sent with the trailers, if there is any.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.extra.as_ref().map(|extra| &extra.metadata).filter(|metadata| !metadata.is_empty())
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
        if !self.is_ok() && !self.details().is_empty() {
            let status = rpc::Status {
                code: self.code as i32,
                message: self.message().to_owned(),
                details: self.details().to_vec(),
            };
            trailers.insert(GRPC_STATUS_DETAILS, encode_bin(&status.encode_to_vec()));
        }
        if !self.message.is_empty() {
            trailers.insert(GRPC_MESSAGE, encode_message(&self.message));
        }
    }
}

/// Returns `type.googleapis.com/` and the full name, the form that every client library packs and
/// unpacks.
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

/// The client gets a code and a message that depend only on the error's kind. The error's own text
/// may contain files and hosts, so it is only for logs.
impl From<io::Error> for Status {
    fn from(error: io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => Code::NotFound,
            io::ErrorKind::AlreadyExists => Code::AlreadyExists,
            io::ErrorKind::PermissionDenied => Code::PermissionDenied,
            io::ErrorKind::InvalidInput => Code::InvalidArgument,
            io::ErrorKind::TimedOut => Code::DeadlineExceeded,
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::BrokenPipe => Code::Unavailable,
            io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull => Code::ResourceExhausted,
            io::ErrorKind::Unsupported => Code::Unimplemented,
            _ => Code::Internal,
        };
        Self::new(code, error.kind().to_string()).with_log_message(error.to_string())
    }
}

impl From<InvalidMetadata> for Status {
    fn from(error: InvalidMetadata) -> Self {
        Self::internal(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::rpc::{BadRequest, ErrorInfo, RetryInfo};
    use crate::grpc::metadata::decode_bin;

    #[test]
    fn status_details_repeat_code_and_message() {
        let status = Status::not_found("é").with_detail(&ErrorInfo::default());
        let mut trailers = HeaderMap::new();
        status.write_to(&mut trailers);
        let bytes = decode_bin(trailers[GRPC_STATUS_DETAILS].as_bytes()).unwrap();
        let details = rpc::Status::decode(bytes).unwrap();
        assert_eq!((details.code, details.message.as_str()), (5, "é"));
        assert!(!trailers[GRPC_STATUS_DETAILS].to_str().unwrap().contains('='));
    }

    #[test]
    fn status_ok_is_sent_without_details() {
        let mut trailers = HeaderMap::new();
        Status::ok().with_detail(&ErrorInfo::default()).write_to(&mut trailers);
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers[GRPC_STATUS], "0");
    }

    #[test]
    fn status_of_an_io_error_logs_its_text() {
        let error = io::Error::new(io::ErrorKind::NotFound, "/etc/secret is not there");
        let status = Status::from(error);
        assert_eq!((status.code(), status.message()), (Code::NotFound, "entity not found"));
        assert_eq!(status.log_message(), "/etc/secret is not there");
    }

    #[test]
    fn status_metadata_is_readable_before_it_is_sent() {
        assert!(Status::internal("x").metadata().is_none());
        let mut metadata = Metadata::new();
        metadata.insert(&crate::AsciiKey::from_static("x-own"), 1);
        let status = Status::internal("x").with_metadata(metadata.clone());
        assert_eq!(status.metadata(), Some(&metadata));
    }

    #[test]
    fn status_details_are_found_by_type() {
        let status = Status::unavailable("later")
            .with_detail(&RetryInfo::after(std::time::Duration::from_millis(1500)))
            .with_detail(&BadRequest::new().violation("name", "must not be empty"));
        assert_eq!(status.detail::<BadRequest>().unwrap().field_violations.len(), 1);
        let retry: RetryInfo = status.detail().unwrap();
        assert_eq!(retry.delay(), Some(std::time::Duration::from_millis(1500)));
        assert!(status.detail::<ErrorInfo>().is_none());
    }
}

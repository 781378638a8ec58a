//! The header lists of a response, sans I/O. They stay within the client's limit
//! (`SETTINGS_MAX_HEADER_LIST_SIZE`). Many clients reset a call whose headers exceed their limit,
//! and do not report the reason. So the status is always sent, and metadata that does not fit is an
//! error.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::call::Outcome;
use super::code::Code;
use super::compression::{Encoding, Encodings};
use super::head::{APPLICATION_GRPC, GRPC_ACCEPT_ENCODING, GRPC_ENCODING};
use super::metadata::Metadata;
use super::percent::encode_within;
use super::status::{GRPC_MESSAGE, GRPC_STATUS, GRPC_STATUS_DETAILS, Status};

/// The bytes that RFC 9113 (6.5.2) adds to the name and the value of each field.
const OVERHEAD: usize = 32;

/// A client that accepts this many bytes accepts the headers of every response without metadata.
const PLAIN_LIMIT: usize = 256;

/// The size of `:status: 200`, which headers contain and trailers do not.
const HTTP_STATUS: usize = ":status".len() + "200".len() + OVERHEAD;

/// Metadata that exceeds the client's limit.
#[derive(Debug, PartialEq)]
pub(crate) struct OverLimit {
    kind: &'static str,
    /// The size of the whole header list in bytes, as RFC 9113 (6.5.2) counts it.
    size: usize,
    limit: usize,
}

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, size, limit } = self;
        write!(
            f,
            "headers of {size} bytes with the {kind} metadata are over the client's limit of {limit}"
        )
    }
}

/// RESOURCE_EXHAUSTED: the code that clients use for headers over their own limit.
impl From<&OverLimit> for Status {
    fn from(over: &OverLimit) -> Self {
        Self::resource_exhausted(over.to_string())
    }
}

/// Returns the headers of a response that messages or trailers follow. The client accepts `limit`
/// bytes.
///
/// # Errors
/// [`OverLimit`] if the metadata does not fit.
pub(crate) fn response(
    metadata: Metadata,
    encoding: Option<Encoding>,
    accepted: Encodings,
    limit: usize,
) -> Result<Cow<'static, HeaderMap>, OverLimit> {
    if metadata.is_empty() && encoding.is_none() && limit >= PLAIN_LIMIT {
        return Ok(Cow::Borrowed(&PLAIN[accepted.index()]));
    }
    let mut headers = metadata.into_sendable();
    let metadata = !headers.is_empty();
    headers.reserve(2);
    headers.insert(CONTENT_TYPE, APPLICATION_GRPC);
    if let Some(encoding) = encoding {
        headers.insert(GRPC_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    headers.insert(GRPC_ACCEPT_ENCODING, accepted.header());
    let size = HTTP_STATUS + list_size(&headers);
    if size > limit {
        if metadata {
            return Err(OverLimit { kind: "initial", size, limit });
        }
        // The only header that a client does not need.
        headers.remove(GRPC_ACCEPT_ENCODING);
    }
    Ok(Cow::Owned(headers))
}

/// The headers of responses without metadata, by the index of the accepted encodings.
static PLAIN: LazyLock<Vec<HeaderMap>> = LazyLock::new(|| {
    let plain = |accepted: Encodings| {
        [(CONTENT_TYPE, APPLICATION_GRPC), (GRPC_ACCEPT_ENCODING, accepted.header())]
    };
    Encodings::sets().map(|accepted| plain(accepted).into_iter().collect()).collect()
});

/// Fails a successful call whose trailing metadata exceeds the client's `limit`. Without the error,
/// the client would take the response for one without metadata.
///
/// # Errors
/// [`OverLimit`]. The call's status is set to it.
pub(crate) fn fit(outcome: &mut Outcome, limit: usize) -> Result<(), OverLimit> {
    if !outcome.status.is_ok() || outcome.trailers.is_empty() {
        return Ok(());
    }
    let metadata: usize = outcome.trailers.sendable().map(entry_size).sum();
    let size = metadata + entry_size((&GRPC_STATUS, &outcome.status.code().header_value()));
    if metadata == 0 || size <= limit {
        return Ok(());
    }
    let over = OverLimit { kind: "trailing", size, limit };
    *outcome = Status::from(&over).into();
    Err(over)
}

/// Returns the trailers of a call. The client accepts `limit` bytes.
pub(crate) fn trailers(outcome: Outcome, limit: usize) -> Cow<'static, HeaderMap> {
    static OK: LazyLock<HeaderMap> =
        LazyLock::new(|| [(GRPC_STATUS, Code::Ok.header_value())].into_iter().collect());
    if outcome.status.is_ok() && outcome.status.message().is_empty() && outcome.trailers.is_empty()
    {
        return Cow::Borrowed(&OK);
    }
    let mut trailers = outcome.trailers.into_sendable();
    trailers.reserve(1);
    write_within(limit, &outcome.status, &mut trailers);
    Cow::Owned(trailers)
}

/// Returns the single header list of a response without messages (PROTOCOL-HTTP2, "Trailers-Only").
/// It contains the `accepted` encodings, which a response to an unsupported encoding needs.
pub(crate) fn trailers_only(outcome: Outcome, accepted: Encodings, limit: usize) -> HeaderMap {
    let mut headers = outcome.trailers.into_sendable();
    headers.insert(CONTENT_TYPE, APPLICATION_GRPC);
    headers.insert(GRPC_ACCEPT_ENCODING, accepted.header());
    write_within(limit.saturating_sub(HTTP_STATUS), &outcome.status, &mut headers);
    headers
}

/// Adds the status to `headers` within `limit` bytes. If they do not fit, it removes in this order:
/// the details, the application's metadata, the end of the message. The code always stays. So does
/// the metadata of a successful call, which [`fit`] has checked.
///
/// A truncated message leaves half of the limit free. gRPC C-core rejects header lists at random
/// above half of its announced limit, and always at the limit.
fn write_within(limit: usize, status: &Status, headers: &mut HeaderMap) {
    status.write_to(headers);
    if list_size(headers) <= limit {
        return;
    }
    headers.remove(GRPC_STATUS_DETAILS);
    if list_size(headers) <= limit {
        return;
    }
    let whole = headers.remove(GRPC_MESSAGE);
    if !status.is_ok() {
        let content_type = headers.remove(CONTENT_TYPE);
        headers.clear();
        headers.extend(content_type.map(|value| (CONTENT_TYPE, value)));
        headers.insert(GRPC_STATUS, status.code().header_value());
    }
    let taken = list_size(headers) + GRPC_MESSAGE.as_str().len() + OVERHEAD;
    let message = whole
        .filter(|whole| taken + whole.len() <= limit)
        .unwrap_or_else(|| encode_within((limit / 2).saturating_sub(taken), status.message()));
    if !message.is_empty() {
        headers.insert(GRPC_MESSAGE, message);
    }
}

/// Returns the size of a header list as RFC 9113 (6.5.2) counts it, without `:status`.
fn list_size(headers: &HeaderMap) -> usize {
    headers.iter().map(entry_size).sum()
}

fn entry_size((name, value): (&HeaderName, &HeaderValue)) -> usize {
    name.as_str().len() + value.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::rpc::ErrorInfo;
    use crate::{AsciiKey, Code};

    const ALL: Encodings = Encodings::ALL;

    static OWN: AsciiKey = AsciiKey::from_static("x-own");

    /// Metadata with two values of one name.
    fn metadata() -> Metadata {
        let mut metadata = Metadata::new();
        metadata.append(&OWN, 1);
        metadata.append(&OWN, 22);
        metadata
    }

    const METADATA: usize = 2 * (5 + 32) + 1 + 2;

    fn outcome(status: Status) -> Outcome {
        Outcome { trailers: metadata(), ..status.into() }
    }

    #[test]
    fn trailers_lose_details_then_metadata_then_message() {
        let status = Status::unknown("m".repeat(1000)).with_detail(&ErrorInfo::default());
        let whole = trailers(outcome(status.clone()), usize::MAX);
        let message = (GRPC_STATUS.as_str().len() + 1 + 32) + (12 + 1000 + 32);
        let details = 23 + whole[GRPC_STATUS_DETAILS].len() + 32;
        assert_eq!(list_size(&whole), message + details + METADATA);
        let written = |limit| {
            let headers = trailers(outcome(status.clone()), limit);
            assert_eq!(headers[GRPC_STATUS], "2");
            assert!(limit < 44 || list_size(&headers) <= limit);
            let message = headers.get(GRPC_MESSAGE).map_or(0, HeaderValue::len);
            (headers.contains_key(GRPC_STATUS_DETAILS), headers.contains_key("x-own"), message)
        };
        assert_eq!(written(message + details + METADATA), (true, true, 1000));
        assert_eq!(written(message + details + METADATA - 1), (false, true, 1000));
        assert_eq!(written(message + METADATA), (false, true, 1000));
        assert_eq!(written(message + METADATA - 1), (false, false, 1000));
        assert_eq!(written(message), (false, false, 1000));
        assert_eq!(written(message - 1), (false, false, (message - 1) / 2 - 44 - 12 - 32));
        assert_eq!(written(44 + 12 + 32), (false, false, 0));
        assert_eq!(written(0), (false, false, 0));
    }

    #[test]
    fn trailers_only_count_the_http_status() {
        let status = Status::unknown("gone");
        let whole = trailers_only(outcome(status.clone()), ALL, usize::MAX);
        let size = 7 + 3 + 32 + list_size(&whole);
        let at_limit = trailers_only(outcome(status.clone()), ALL, size);
        assert_eq!(at_limit, whole);
        let cut = trailers_only(outcome(status), ALL, size - 1);
        assert_eq!(cut[CONTENT_TYPE], "application/grpc");
        assert_eq!(cut[GRPC_STATUS], "2");
        assert_eq!(cut[GRPC_MESSAGE], "gone");
        assert_eq!(cut.len(), 3);
    }

    #[test]
    fn trailing_metadata_over_the_limit_fails_the_call() {
        let size = 11 + 1 + 32 + METADATA;
        for (limit, code) in [(size, Code::Ok), (size - 1, Code::ResourceExhausted)] {
            let mut outcome = outcome(Status::ok());
            assert_eq!(fit(&mut outcome, limit).is_ok(), code == Code::Ok);
            assert_eq!(outcome.status.code(), code);
            let sent = trailers(outcome, limit);
            assert_eq!(sent.contains_key("x-own"), code == Code::Ok);
            assert!(list_size(&sent) <= limit);
        }
    }

    #[test]
    fn trailing_metadata_alone_can_fail_a_successful_call() {
        let mut bare = Outcome::ok();
        assert_eq!(fit(&mut bare, 0), Ok(()));
        assert_eq!(trailers(bare, 0)[GRPC_STATUS], "0");

        let mut reserved = HeaderMap::new();
        reserved.insert("grpc-anything", HeaderValue::from_static("not sent"));
        let mut reserved = Outcome { trailers: reserved.into(), ..Outcome::ok() };
        assert_eq!(fit(&mut reserved, 50), Ok(()));

        let mut failed = outcome(Status::unknown("gone"));
        assert_eq!(fit(&mut failed, 0), Ok(()));
        assert_eq!(failed.status.code(), Code::Unknown);

        // The message of a successful call may be truncated.
        let mut told = outcome(Status::new(Code::Ok, "m".repeat(1000)));
        let limit = 2 * (11 + 1 + 32 + METADATA + 12 + 32 + 10);
        assert_eq!(fit(&mut told, limit), Ok(()));
        let sent = trailers(told, limit);
        assert_eq!((sent["x-own"].len(), sent[GRPC_MESSAGE].len()), (1, 10));
    }

    #[test]
    fn initial_metadata_over_the_limit_is_an_error() {
        let whole = response(metadata(), None, ALL, usize::MAX).unwrap();
        let size = 7 + 3 + 32 + list_size(&whole);
        assert_eq!(response(metadata(), None, ALL, size).unwrap(), whole);
        let over = response(metadata(), None, ALL, size - 1).unwrap_err();
        assert_eq!(over, OverLimit { kind: "initial", size, limit: size - 1 });
        assert_eq!(Status::from(&over).code(), Code::ResourceExhausted);
    }

    #[test]
    fn headers_without_metadata_are_always_sent() {
        let whole = response(Metadata::new(), None, ALL, usize::MAX).unwrap();
        assert_eq!(whole.len(), 2);
        for limit in [0, 7 + 3 + 32 + list_size(&whole) - 1] {
            let response = response(Metadata::new(), None, ALL, limit).unwrap();
            assert_eq!(response.len(), 1);
            assert_eq!(response[CONTENT_TYPE], "application/grpc");
        }
    }

    #[test]
    fn trailers_only_list_the_accepted_encodings() {
        let response = trailers_only(Status::unimplemented("no").into(), ALL, usize::MAX);
        let accepted = response[GRPC_ACCEPT_ENCODING].to_str().unwrap();
        assert!(accepted.starts_with("identity"));
    }

    #[test]
    #[cfg(feature = "gzip")]
    fn headers_contain_the_message_encoding() {
        let response = response(Metadata::new(), Some(Encoding::GZIP), ALL, usize::MAX).unwrap();
        assert_eq!(response[GRPC_ENCODING], "gzip");
    }
}

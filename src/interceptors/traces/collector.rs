//! Requests to a collector: OTLP over HTTP/1.1, in binary protobuf.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, RETRY_AFTER, TE, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request};
use prost::Message;
use tokio::time::timeout;

use super::otlp::ExportTraceServiceResponse;
use crate::ClientTls;
use crate::http_client::Url;

/// The port of OTLP over HTTP, with and without TLS.
const DEFAULT_PORT: u16 = 4318;

/// The path for traces, below the URL of the collector.
const PATH: &str = "/v1/traces";

/// The time from connecting to the end of the response: the default of `OTEL_EXPORTER_OTLP_TIMEOUT`.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A response is a number and a sentence.
const MAX_ANSWER: usize = 64 * 1024;

/// The URL of a collector, such as `http://localhost:4318`. The port is 4318 unless it has one, also
/// with TLS. Traces are sent to `/v1/traces` below its path. A URL of `https` needs a trust store: see
/// [`trust`](Self::trust).
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The URL with the path for traces.
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
}

/// A header for requests to a collector, such as `authorization`. `Debug` does not show its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    name: HeaderName,
    value: HeaderValue,
}

/// Headers that HTTP and OTLP themselves need.
const RESERVED_HEADERS: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    HOST,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

impl Header {
    /// A header of this name and value.
    ///
    /// # Errors
    /// If the name or the value is invalid in HTTP, or if HTTP or OTLP itself needs the header.
    pub fn new(name: &str, value: &str) -> Result<Self, InvalidHeader> {
        let name: HeaderName = name.parse().map_err(|_| InvalidHeader::Name)?;
        if RESERVED_HEADERS.contains(&name) {
            return Err(InvalidHeader::Reserved(name.as_str().to_owned()));
        }
        let mut value: HeaderValue = value.parse().map_err(|_| InvalidHeader::Value)?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

/// A name or value that cannot be a [`Header`]. It does not show the value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// The name has characters that HTTP does not allow.
    Name,
    /// The value has characters that HTTP does not allow.
    Value,
    /// HTTP or OTLP itself needs the header of this name.
    Reserved(String),
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("invalid name of a header: wanted a token of HTTP"),
            Self::Value => f.write_str("invalid value of a header: wanted visible ASCII"),
            Self::Reserved(name) => write!(f, "the header {name} is set by the exporter itself"),
        }
    }
}

impl std::error::Error for InvalidHeader {}

/// A text that is not an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEndpoint(());

/// The reason why the collector did not take spans.
#[derive(Debug)]
pub(super) enum Failure {
    /// A retry may succeed, after this time if the collector gave one.
    Passing(String, Option<Duration>),
    /// So many spans are lost.
    Final(String, u64),
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        Self::parse(text).ok_or(InvalidEndpoint(()))
    }
}

impl Endpoint {
    fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text)?;
        if url.path().query().is_some() {
            return None;
        }
        let path = format!("{}{PATH}", url.path().path().trim_end_matches('/')).parse().ok()?;
        Some(Self { url: url.with_path(path), headers: HeaderMap::new(), timeout: TIME_LIMIT })
    }

    /// Whether it is a URL of `https`.
    pub fn is_tls(&self) -> bool {
        self.url.is_tls()
    }

    /// Sets the trust store for a URL of `https`. Without one no certificate is trusted, and nothing is
    /// exported.
    #[must_use]
    pub fn trust(mut self, tls: ClientTls) -> Self {
        self.url = self.url.trust(tls);
        self
    }

    /// Adds a header to each request, in place of one of the same name.
    #[must_use]
    pub fn header(mut self, header: Header) -> Self {
        self.headers.insert(header.name, header.value);
        self
    }

    /// The time limit of a request, from connecting to the end of the response: 10 s unless set.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Posts an encoded request for so many spans.
    pub(super) async fn post(&self, body: Bytes, spans: u64) -> Result<(), Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = self.headers.clone();
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        request.headers_mut().insert(CONTENT_TYPE, protobuf);
        let exchange = self.url.exchange(request, DEFAULT_PORT, MAX_ANSWER);
        let answer = timeout(self.timeout, exchange).await;
        let failed = |error: &dyn fmt::Display| Failure::Passing(format!("{self}: {error}"), None);
        let answer =
            answer.map_err(|_| failed(&"no answer in time"))?.map_err(|error| failed(&error))?;
        // OTLP, "OTLP/HTTP Response": only these may be retried.
        let status = answer.status();
        match status.as_u16() {
            200..=299 => self.look_for_rejected(answer.body()),
            429 | 502 | 503 | 504 => {
                Err(Failure::Passing(format!("{self}: {status}"), retry_after(answer.headers())))
            }
            _ => Err(Failure::Final(format!("{self}: {status}"), spans)),
        }
    }

    /// A collector may accept a request and still reject some of its spans.
    fn look_for_rejected(&self, body: &[u8]) -> Result<(), Failure> {
        let answer = ExportTraceServiceResponse::decode(body).unwrap_or_default();
        match answer.partial_success {
            Some(partial) if partial.rejected_spans > 0 => {
                let spans = partial.rejected_spans.unsigned_abs();
                Err(Failure::Final(format!("{self}: {}", partial.error_message), spans))
            }
            _ => Ok(()),
        }
    }
}

/// The time until the collector accepts a retry, if it gave one (RFC 9110, 10.2.3): as seconds or as a
/// date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Display for InvalidEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the URL of a collector, http(s)://HOST:PORT, without user and query")
    }
}

impl std::error::Error for InvalidEndpoint {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_the_url_of_a_collector() {
        for (text, posts_to) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
            ("http://collector", "http://collector/v1/traces"),
            ("http://[::1]:1/otlp/", "http://[::1]:1/otlp/v1/traces"),
            ("https://collector:443", "https://collector:443/v1/traces"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), posts_to);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |value: &str| {
            let headers = [(RETRY_AFTER, HeaderValue::from_str(value).unwrap())];
            retry_after(&headers.into_iter().collect())
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let seconds = of(&date).unwrap().as_secs();
        assert!((57..=60).contains(&seconds), "{seconds}");
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        for odd in ["", "soon", "-1", "1.5"] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }

    #[test]
    fn headers_are_hidden_and_never_reserved_ones() {
        let endpoint: Endpoint = "http://a".parse().unwrap();
        let endpoint = endpoint.header(Header::new("x-secret", "hunter2").unwrap());
        assert_eq!(endpoint.headers.len(), 1);
        let reserved = Header::new("Host", "hunter2").unwrap_err();
        assert_eq!(reserved, InvalidHeader::Reserved("host".to_owned()));
        assert_eq!(Header::new("a b", "hunter2").unwrap_err(), InvalidHeader::Name);
        assert_eq!(Header::new("a", "hunter\n2").unwrap_err(), InvalidHeader::Value);
        assert!(!format!("{endpoint:?}").contains("hunter2"));
    }

    #[test]
    fn endpoint_refuses_other_urls() {
        for text in [
            "",
            "localhost:4318",
            "/v1/traces",
            "http://",
            "http://:4318",
            "http://host:",
            "http://host:70000",
            "http://host:0",
            "grpc://host:4317",
            "http://user:secret@host:4318",
            "http://host:4318?key=secret",
            "http://host:4318/#there",
            "http://a b",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}

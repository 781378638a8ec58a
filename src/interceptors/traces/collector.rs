//! One way to a collector: OTLP over HTTP/1.1, in binary protobuf.

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

/// Of OTLP over HTTP.
const DEFAULT_PORT: u16 = 4318;

/// Where traces go, below the URL of the collector.
const PATH: &str = "/v1/traces";

/// From connecting to the end of the answer: the default of `OTEL_EXPORTER_OTLP_TIMEOUT`.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// An answer is a number and a sentence.
const MAX_ANSWER: usize = 64 * 1024;

/// The URL of a collector, such as `http://localhost:4318`. The port is 4318 if there is none, and
/// traces go to `/v1/traces` below its path: 4318 is the port of OTLP over HTTP with TLS as well. One of `https` has to be [trusted](Self::trust).
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// With the path of traces.
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
}

/// A text that is no [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEndpoint(());

/// Why spans are not with the collector.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another time they may be accepted: not before this time, if the collector says so.
    Passing(String, Option<Duration>),
    /// These never will be, so many of them.
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

    /// Whether it is one of `https`.
    pub fn is_tls(&self) -> bool {
        self.url.is_tls()
    }

    /// Says who has to have signed the collector's certificate, if it is one of `https`: until then
    /// nobody is trusted, and nothing exported.
    #[must_use]
    pub fn trust(mut self, tls: ClientTls) -> Self {
        self.url = self.url.trust(tls);
        self
    }

    /// Whether requests may have a further header of this name: those that HTTP and OTLP need are not
    /// to be replaced.
    pub fn accepts_header(name: &HeaderName) -> bool {
        ![
            CONNECTION,
            CONTENT_ENCODING,
            CONTENT_LENGTH,
            CONTENT_TYPE,
            HOST,
            TE,
            TRANSFER_ENCODING,
            UPGRADE,
        ]
        .contains(name)
    }

    /// Adds a header to each request, such as `authorization`, unless it is one that HTTP or OTLP
    /// needs.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if Self::accepts_header(&name) {
            self.headers.insert(name, value);
        }
        self
    }

    /// How long a request may take, from connecting to the end of the answer: 10 s unless set.
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
        // OTLP, "OTLP/HTTP Response": these and no others are worth another try.
        let status = answer.status();
        match status.as_u16() {
            200..=299 => self.look_for_rejected(answer.body()),
            429 | 502 | 503 | 504 => {
                Err(Failure::Passing(format!("{self}: {status}"), retry_after(answer.headers())))
            }
            _ => Err(Failure::Final(format!("{self}: {status}"), spans)),
        }
    }

    /// A collector that has accepted a request may have refused spans in it, for good.
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

/// When the collector wants to be asked again, if it says so (RFC 9110, 10.2.3): in so many seconds, or
/// at a time.
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
    fn an_endpoint_is_the_url_of_a_collector() {
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
    fn retry_after_is_a_number_of_seconds_or_a_date() {
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
    fn headers_are_not_shown_and_those_of_http_are_not_replaced() {
        let endpoint: Endpoint = "http://a".parse().unwrap();
        let mut secret = HeaderValue::from_static("hunter2");
        secret.set_sensitive(true);
        let endpoint = endpoint.header(HOST, secret.clone()).header(RETRY_AFTER, secret);
        assert_eq!(endpoint.headers.len(), 1);
        assert!(!format!("{endpoint:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
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

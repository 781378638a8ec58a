//! One way to a collector: OTLP over HTTP/1.1, in binary protobuf.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::otlp::ExportTraceServiceResponse;
use crate::ClientTls;

/// Of OTLP over HTTP.
const DEFAULT_PORT: u16 = 4318;

/// Where traces go, below the URL of the collector.
const PATH: &str = "/v1/traces";

/// From connecting to the end of the answer: the default of `OTEL_EXPORTER_OTLP_TIMEOUT`.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// An answer is a number and a sentence.
const MAX_ANSWER: usize = 64 * 1024;

/// The URL of a collector, such as `http://localhost:4318`. The port is 4318 if there is none, and
/// traces go to `/v1/traces` below its path. One of `https` has to be [trusted](Self::trust).
#[derive(Debug, Clone)]
pub struct Endpoint {
    authority: Authority,
    path: PathAndQuery,
    /// `None` is in the clear.
    tls: Option<ClientTls>,
}

/// A text that is no [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEndpoint(());

/// Why spans are not with the collector.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another time they may be accepted.
    Passing(String),
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
        let uri = Uri::from_str(text).ok()?;
        let authority = uri.authority()?.clone();
        // What Uri takes for no port at all, such as 70000, it leaves in the text.
        let rest = authority.as_str().strip_prefix(authority.host())?;
        let is_port = rest.is_empty() || authority.port_u16().is_some_and(|port| port != 0);
        if uri.query().is_some() || !is_port || authority.host().is_empty() || text.contains('#') {
            return None;
        }
        let tls = match uri.scheme()? {
            scheme if *scheme == Scheme::HTTP => None,
            scheme if *scheme == Scheme::HTTPS => Some(ClientTls::trusting_nobody()),
            _ => return None,
        };
        let path = format!("{}{PATH}", uri.path().trim_end_matches('/')).parse().ok()?;
        Some(Self { authority, path, tls })
    }

    /// Whether it is one of `https`.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Says who has to have signed the collector's certificate, if it is one of `https`: until then
    /// nobody is trusted, and nothing exported.
    #[must_use]
    pub fn trust(mut self, tls: ClientTls) -> Self {
        self.tls = self.tls.map(|_| tls);
        self
    }

    /// Posts an encoded request for so many spans.
    pub(super) async fn post(&self, body: Bytes, spans: u64) -> Result<(), Failure> {
        let answer = timeout(TIME_LIMIT, self.exchange(body)).await;
        let failed = |error: &dyn fmt::Display| Failure::Passing(format!("{self}: {error}"));
        let (status, body) =
            answer.map_err(|_| failed(&"no answer in time"))?.map_err(|error| failed(&error))?;
        // OTLP, "OTLP/HTTP Response": these and no others are worth another try.
        match status.as_u16() {
            200..=299 => self.look_for_rejected(&body),
            429 | 502 | 503 | 504 => Err(failed(&status)),
            _ => Err(Failure::Final(format!("{self}: {status}"), spans)),
        }
    }

    /// A connection for each request: there is one every few seconds at the most.
    async fn exchange(&self, body: Bytes) -> Result<(StatusCode, Bytes), BoxError> {
        let (host, port) = (self.authority.host(), self.authority.port_u16());
        let host = host.trim_matches(['[', ']']);
        let port = port.unwrap_or(DEFAULT_PORT);
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(TcpStream::connect((host, port)).await?),
            Some(tls) => Box::new(tls.connect(host, port).await?),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::post(self.path.clone())
            .header(HOST, self.authority.as_str())
            .header(CONNECTION, "close")
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, concat!("balafon/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))?;
        let answer = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok((head.status, body))
        };
        tokio::pin!(connection, answer);
        tokio::select! {
            answer = &mut answer => answer,
            done = connection => {
                done?;
                // What came before the end is with the answer already.
                answer.await
            }
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

/// With TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
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

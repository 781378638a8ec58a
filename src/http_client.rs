//! An HTTP/1.1 client for small and rare requests, with or without TLS.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::ClientTls;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An absolute URL of `http` or `https`, without a user. A URL of `https` needs a trust store: see
/// [`trust`](Self::trust).
#[derive(Debug, Clone)]
pub(crate) struct Url {
    authority: Authority,
    path: PathAndQuery,
    /// `None` is without TLS.
    tls: Option<ClientTls>,
}

impl Url {
    /// `None` for other texts.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let uri = Uri::from_str(text).ok()?;
        let authority = uri.authority()?.clone();
        // `Uri` leaves an invalid port, such as 70000, in the text.
        let rest = authority.as_str().strip_prefix(authority.host())?;
        let is_port = rest.is_empty() || authority.port_u16().is_some_and(|port| port != 0);
        if !is_port || authority.host().is_empty() || text.contains('#') {
            return None;
        }
        let tls = match uri.scheme()? {
            scheme if *scheme == Scheme::HTTP => None,
            scheme if *scheme == Scheme::HTTPS => Some(ClientTls::without_authorities()),
            _ => return None,
        };
        let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        Some(Self { authority, path, tls })
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// A name, or an address without brackets.
    pub(crate) fn host(&self) -> &str {
        self.authority.host().trim_matches(['[', ']'])
    }

    #[cfg(feature = "otlp")]
    pub(crate) fn path(&self) -> &PathAndQuery {
        &self.path
    }

    /// The same with another path.
    #[cfg(feature = "otlp")]
    pub(crate) fn with_path(self, path: PathAndQuery) -> Self {
        Self { path, ..self }
    }

    /// Sets the trust store for a URL of `https`. Without one no certificate is trusted.
    pub(crate) fn trust(self, tls: ClientTls) -> Self {
        Self { tls: self.tls.map(|_| tls), ..self }
    }

    /// Sends a request to this URL by a new connection. `port` is for a URL without one. The body of the
    /// response may have up to `max_answer` bytes.
    pub(crate) async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
        port: u16,
        max_answer: usize,
    ) -> Result<Response<Bytes>, BoxError> {
        *request.uri_mut() = self.path.clone().into();
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(self.authority.as_str())?);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let agent = HeaderValue::from_static(concat!("balafon/", env!("CARGO_PKG_VERSION")));
        headers.entry(USER_AGENT).or_insert(agent);

        let port = self.authority.port_u16().unwrap_or(port);
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(TcpStream::connect((self.host(), port)).await?),
            Some(tls) => Box::new(tls.connect(self.host(), port).await?),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let answer = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, max_answer).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        tokio::pin!(connection, answer);
        tokio::select! {
            answer = &mut answer => answer,
            done = connection => {
                done?;
                // The response has all bytes that came before the end.
                answer.await
            }
        }
    }
}

/// With TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

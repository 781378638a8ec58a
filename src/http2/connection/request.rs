use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request, uri};

use crate::http2::hpack::{Field, Name, Value};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Reads the header list of a request (RFC 9113, 8.3).
pub(super) struct RequestBuilder {
    /// The size of the list, and its limit, as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
    size: usize,
    limit: usize,
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    headers: HeaderMap,
    content_length: Option<u64>,
    sensitive: bool,
    refused: Option<Refused>,
}

/// The reason why a header list is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The list is longer than the server accepts.
    TooLarge,
    /// A stream error PROTOCOL_ERROR (RFC 9113, 8.1.1).
    Malformed(&'static str),
}

/// A request, which has no body yet.
#[derive(Clone)]
pub(super) struct BuiltRequest {
    pub(super) parts: Arc<request::Parts>,
    /// The value of its `content-length`.
    pub(super) content_length: Option<u64>,
    /// The size of its header list, in bytes.
    pub(super) size: usize,
    /// Whether the client forbids to index a field, because its value is a secret.
    pub(super) sensitive: bool,
}

impl RequestBuilder {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            size: 0,
            limit,
            method: None,
            scheme: None,
            authority: None,
            path: None,
            headers: HeaderMap::new(),
            content_length: None,
            sensitive: false,
            refused: None,
        }
    }

    pub(super) fn field(&mut self, field: &Field) {
        if self.refused.is_some() {
            return;
        }
        self.size += field.size();
        if self.size > self.limit {
            self.refused = Some(Refused::TooLarge);
        }
        if let Err(reason) = self.add(field) {
            self.refused.get_or_insert(Refused::Malformed(reason));
        }
    }

    fn add(&mut self, field: &Field) -> Result<(), &'static str> {
        match (&field.name, &field.value) {
            (Name::Header(name), Value::Header(value)) => self.header(name, value),
            (Name::Method, Value::Method(method)) => {
                let method = method.clone();
                self.pseudo().and_then(|this| set(&mut this.method, method))
            }
            (Name::Scheme, Value::Scheme(scheme)) => {
                let scheme = scheme.clone();
                self.pseudo().and_then(|this| set(&mut this.scheme, scheme))
            }
            (Name::Authority, Value::Authority(authority)) => {
                let authority = authority.clone();
                self.pseudo().and_then(|this| set(&mut this.authority, authority))
            }
            (Name::Path, Value::Path(path)) => {
                let path = path.clone();
                self.pseudo().and_then(|this| set(&mut this.path, path))
            }
            (Name::Protocol | Name::Status, _) => {
                Err("a request has a pseudo-header of another message (8.3)")
            }
            (Name::Invalid(_), _) => Err("a header name is invalid (8.2.1)"),
            _ => Err("a header value is invalid (8.2.1)"),
        }
    }

    fn pseudo(&mut self) -> Result<&mut Self, &'static str> {
        if self.headers.is_empty() {
            Ok(self)
        } else {
            Err("a pseudo-header follows a header (8.3)")
        }
    }

    fn header(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), &'static str> {
        check_header(name, value)?;
        if name == CONTENT_LENGTH {
            let length = parse_length(value).ok_or("the content-length is no number (8.1.1)")?;
            if self.content_length.is_some_and(|other| other != length) {
                return Err("there are two values of content-length (8.1.1)");
            }
            self.content_length = Some(length);
        }
        self.sensitive |= value.is_sensitive();
        if self.headers.try_append(name, value.clone()).is_err() {
            self.refused = Some(Refused::TooLarge);
        }
        Ok(())
    }

    /// Checks the whole list, and returns the request.
    pub(super) fn finish(self) -> Result<BuiltRequest, Refused> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        let method = self.method.ok_or(Refused::Malformed("the :method is missing (8.3.1)"))?;
        let uri = if method == Method::CONNECT {
            connect(self.scheme, self.authority, self.path)
        } else {
            target(self.scheme, self.authority, self.path)
        };
        let uri = uri.map_err(Refused::Malformed)?;
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = method;
        parts.uri = uri;
        parts.version = Version::HTTP_2;
        parts.headers = self.headers;
        let Self { content_length, size, sensitive, .. } = self;
        Ok(BuiltRequest { parts: Arc::new(parts), content_length, size, sensitive })
    }
}

/// Checks a header that HTTP/2 may not permit (RFC 9113, 8.2.2).
pub(super) fn check_header(name: &HeaderName, value: &HeaderValue) -> Result<(), &'static str> {
    if *name == TE {
        return if value == "trailers" { Ok(()) } else { Err("te is not `trailers` (8.2.2)") };
    }
    let connection_specific =
        [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION];
    if connection_specific.contains(name) {
        return Err("a header is specific to the connection (8.2.2)");
    }
    Ok(())
}

fn set<T>(field: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err("a pseudo-header is repeated (8.3)"),
    }
}

fn parse_length(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// The target of a CONNECT request (RFC 9113, 8.5).
fn connect(
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
) -> Result<Uri, &'static str> {
    if scheme.is_some() || path.is_some() {
        return Err("CONNECT has a :scheme or a :path (8.5)");
    }
    Ok(authority.ok_or("CONNECT has no :authority (8.5)")?.into())
}

fn target(
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
) -> Result<Uri, &'static str> {
    let scheme = scheme.ok_or("the :scheme is missing (8.3.1)")?;
    let path = path.ok_or("the :path is missing (8.3.1)")?;
    if !path.as_str().starts_with(['/', '*']) {
        return Err("the :path does not begin with a slash (8.3.1)");
    }
    let mut parts = uri::Parts::default();
    // `Uri` has a scheme only together with an authority.
    parts.scheme = authority.is_some().then_some(scheme);
    parts.authority = authority;
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| "the :authority is invalid (8.3.1)")
}

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method};

/// A field of a header list. It has no `Debug`: values can be secrets.
#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) name: Name,
    pub(crate) value: Value,
    size: usize,
}

/// The name of a field: a pseudo-header (RFC 9113 section 8.3), or a header's name.
#[derive(Clone)]
pub(crate) enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    /// RFC 8441.
    Protocol,
    Status,
    Header(HeaderName),
    /// An unknown pseudo-header, upper case, or bytes that no name has. The message is malformed
    /// (RFC 9113 section 8.2.1): that is an error of the stream, not of the connection.
    Invalid(Bytes),
}

/// The value of a field, parsed as its name requires.
#[derive(Clone)]
pub(crate) enum Value {
    Method(Method),
    Scheme(Scheme),
    Authority(Authority),
    Path(PathAndQuery),
    /// The value of a header, of `:protocol` or of `:status`.
    Header(HeaderValue),
    /// Bytes that the name's values cannot have. The message is malformed.
    #[cfg_attr(not(any(test, fuzzing)), expect(dead_code, reason = "only tests read the bytes"))]
    Invalid(Bytes),
}

/// The size of an entry without its texts (RFC 7541 section 4.1, RFC 9113 section 6.5.2).
pub(super) const OVERHEAD: usize = 32;

impl Field {
    /// A sensitive field must never be indexed, also if it is forwarded (RFC 7541 section 7.1.3).
    pub(super) fn parse(name: Name, value: &[u8], sensitive: bool) -> Self {
        let size = name.as_bytes().len() + value.len() + OVERHEAD;
        let value = Value::parse(&name, value, sensitive);
        Self { name, value, size }
    }

    pub(super) const fn from_static(name: Name, value: Value, length: usize) -> Self {
        Self { name, value, size: length + OVERHEAD }
    }

    /// Returns the size as the dynamic table and SETTINGS_MAX_HEADER_LIST_SIZE count it: name, value
    /// and 32, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }
}

impl Name {
    pub(super) fn parse(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":status" => Self::Status,
            _ => match HeaderName::from_lowercase(name) {
                Ok(name) => Self::Header(name),
                Err(_) => Self::Invalid(Bytes::copy_from_slice(name)),
            },
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Method => b":method",
            Self::Scheme => b":scheme",
            Self::Authority => b":authority",
            Self::Path => b":path",
            Self::Protocol => b":protocol",
            Self::Status => b":status",
            Self::Header(name) => name.as_str().as_bytes(),
            Self::Invalid(name) => name,
        }
    }
}

impl Value {
    fn parse(name: &Name, value: &[u8], sensitive: bool) -> Self {
        let parsed = match name {
            Name::Method => Method::from_bytes(value).ok().map(Self::Method),
            Name::Scheme => Scheme::try_from(value).ok().map(Self::Scheme),
            Name::Authority => Authority::try_from(value).ok().map(Self::Authority),
            Name::Path => PathAndQuery::try_from(value)
                .ok()
                // `PathAndQuery` cuts a fragment off. A path has none (RFC 9113 section 8.3.1).
                .filter(|path| path.as_str().as_bytes() == value)
                .map(Self::Path),
            Name::Protocol | Name::Status | Name::Header(_) | Name::Invalid(_) => {
                HeaderValue::from_bytes(value).ok().map(|mut value| {
                    value.set_sensitive(sensitive);
                    Self::Header(value)
                })
            }
        };
        parsed.unwrap_or_else(|| Self::Invalid(Bytes::copy_from_slice(value)))
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Method(method) => method.as_str().as_bytes(),
            Self::Scheme(scheme) => scheme.as_str().as_bytes(),
            Self::Authority(authority) => authority.as_str().as_bytes(),
            Self::Path(path) => path.as_str().as_bytes(),
            Self::Header(value) => value.as_bytes(),
            Self::Invalid(value) => value,
        }
    }
}

//! The static table (RFC 7541 appendix A).

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method};

use super::field::{Field, Name, Value};

/// The number of entries. The dynamic table's indexes follow.
pub(super) const LEN: usize = 61;

/// The entries in the order of their indexes, of which the first is 1.
pub(super) static ENTRIES: [Field; LEN] = [
    // An authority must not be empty: only the name is of use.
    Field::from_static(Name::Authority, Value::Invalid(Bytes::new()), ":authority".len()),
    Field::from_static(Name::Method, Value::Method(Method::GET), ":methodGET".len()),
    Field::from_static(Name::Method, Value::Method(Method::POST), ":methodPOST".len()),
    path("/"),
    path("/index.html"),
    Field::from_static(Name::Scheme, Value::Scheme(Scheme::HTTP), ":schemehttp".len()),
    Field::from_static(Name::Scheme, Value::Scheme(Scheme::HTTPS), ":schemehttps".len()),
    status("200"),
    status("204"),
    status("206"),
    status("304"),
    status("400"),
    status("404"),
    status("500"),
    header("accept-charset", ""),
    header("accept-encoding", "gzip, deflate"),
    header("accept-language", ""),
    header("accept-ranges", ""),
    header("accept", ""),
    header("access-control-allow-origin", ""),
    header("age", ""),
    header("allow", ""),
    header("authorization", ""),
    header("cache-control", ""),
    header("content-disposition", ""),
    header("content-encoding", ""),
    header("content-language", ""),
    header("content-length", ""),
    header("content-location", ""),
    header("content-range", ""),
    header("content-type", ""),
    header("cookie", ""),
    header("date", ""),
    header("etag", ""),
    header("expect", ""),
    header("expires", ""),
    header("from", ""),
    header("host", ""),
    header("if-match", ""),
    header("if-modified-since", ""),
    header("if-none-match", ""),
    header("if-range", ""),
    header("if-unmodified-since", ""),
    header("last-modified", ""),
    header("link", ""),
    header("location", ""),
    header("max-forwards", ""),
    header("proxy-authenticate", ""),
    header("proxy-authorization", ""),
    header("range", ""),
    header("referer", ""),
    header("refresh", ""),
    header("retry-after", ""),
    header("server", ""),
    header("set-cookie", ""),
    header("strict-transport-security", ""),
    header("transfer-encoding", ""),
    header("user-agent", ""),
    header("vary", ""),
    header("via", ""),
    header("www-authenticate", ""),
];

const fn path(path: &'static str) -> Field {
    let value = Value::Path(PathAndQuery::from_static(path));
    Field::from_static(Name::Path, value, ":path".len() + path.len())
}

const fn status(code: &'static str) -> Field {
    let value = Value::Header(HeaderValue::from_static(code));
    Field::from_static(Name::Status, value, ":status".len() + code.len())
}

const fn header(name: &'static str, value: &'static str) -> Field {
    let length = name.len() + value.len();
    let value = Value::Header(HeaderValue::from_static(value));
    Field::from_static(Name::Header(HeaderName::from_static(name)), value, length)
}

/// The index of `:status 200`.
pub(super) const STATUS_200: usize = 8;

/// Returns the index of the entry with the name of a header.
pub(super) fn index_of(name: &str) -> Option<usize> {
    let index = match name {
        "accept-charset" => 15,
        "accept-encoding" => 16,
        "accept-language" => 17,
        "accept-ranges" => 18,
        "accept" => 19,
        "access-control-allow-origin" => 20,
        "age" => 21,
        "allow" => 22,
        "authorization" => 23,
        "cache-control" => 24,
        "content-disposition" => 25,
        "content-encoding" => 26,
        "content-language" => 27,
        "content-length" => 28,
        "content-location" => 29,
        "content-range" => 30,
        "content-type" => 31,
        "cookie" => 32,
        "date" => 33,
        "etag" => 34,
        "expect" => 35,
        "expires" => 36,
        "from" => 37,
        "host" => 38,
        "if-match" => 39,
        "if-modified-since" => 40,
        "if-none-match" => 41,
        "if-range" => 42,
        "if-unmodified-since" => 43,
        "last-modified" => 44,
        "link" => 45,
        "location" => 46,
        "max-forwards" => 47,
        "proxy-authenticate" => 48,
        "proxy-authorization" => 49,
        "range" => 50,
        "referer" => 51,
        "refresh" => 52,
        "retry-after" => 53,
        "server" => 54,
        "set-cookie" => 55,
        "strict-transport-security" => 56,
        "transfer-encoding" => 57,
        "user-agent" => 58,
        "vary" => 59,
        "via" => 60,
        "www-authenticate" => 61,
        _ => return None,
    };
    Some(index)
}

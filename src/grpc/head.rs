//! The request headers of a call (PROTOCOL-HTTP2, "Requests"), sans I/O. The input is a request's
//! head. The output is a [`RequestHead`], or a [`Rejection`] that is ready to be sent.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, TE};
use http::{HeaderMap, Method, Response, StatusCode, request};

use super::compression::{self, Encoding, Encodings};
use super::status::Status;
use super::timeout;

/// The content type of every gRPC response of this server. Without a subtype it means protobuf.
pub(super) const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

pub(super) const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
pub(super) const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The values of a call's protocol headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestHead {
    /// The client's `grpc-timeout`, counted from the arrival of the headers.
    pub timeout: Option<Duration>,
    /// The encoding of compressed request messages; `None` if none are compressed.
    pub encoding: Option<Encoding>,
}

/// The reason why a request does not become a call.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum Rejection {
    /// The request is not gRPC.
    NonGrpc(NonGrpc),
    /// The request is gRPC and ends with this status.
    Status(Status),
}

/// A request that is not gRPC because of its HTTP method or its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NonGrpc {
    /// An HTTP method other than POST: HTTP 405.
    MethodNotAllowed,
    /// A missing content type, or one that is not gRPC's: HTTP 415.
    UnsupportedMediaType,
}

impl RequestHead {
    /// Parses the head of a request, and accepts every encoding that is compiled in. The head is that
    /// of the `http` crate, as the HTTP/2 implementation hands it over.
    ///
    /// # Errors
    /// A [`Rejection`], which can be sent as it is.
    pub fn parse(parts: &request::Parts) -> Result<Self, Rejection> {
        Self::parse_accepting(parts, Encodings::ALL)
    }

    /// Parses the head of a request, and accepts only these encodings.
    pub(crate) fn parse_accepting(
        parts: &request::Parts,
        accepted: Encodings,
    ) -> Result<Self, Rejection> {
        if parts.method != Method::POST {
            return Err(Rejection::NonGrpc(NonGrpc::MethodNotAllowed));
        }
        let headers = ProtocolHeaders::of(&parts.headers);
        check_content_type(headers.content_type)?;
        // gRFC A41: several `host` headers are ambiguous, and a proxy may have used another one.
        if headers.hosts > 1 && parts.uri.authority().is_none() {
            let status = Status::internal("several host headers without :authority");
            return Err(Rejection::Status(status));
        }
        let timeout = match headers.timeout {
            None => None,
            Some(value) => timeout::parse(value.as_bytes())
                .map_err(|error| Rejection::Status(Status::internal(error.to_string())))?,
        };
        let encoding = match headers.encoding {
            None => None,
            Some(name) if name == "identity" => None,
            Some(name) => match Encoding::from_name(name.as_bytes()) {
                Some(encoding) if accepted.contain(encoding) => Some(encoding),
                _ => return Err(unsupported(name, accepted)),
            },
        };
        Ok(Self { timeout, encoding })
    }
}

/// The first values of the headers that the protocol defines. One pass over all headers takes less
/// time than to look up each name.
#[derive(Default)]
struct ProtocolHeaders<'h> {
    content_type: Option<&'h HeaderValue>,
    timeout: Option<&'h HeaderValue>,
    encoding: Option<&'h HeaderValue>,
    hosts: usize,
}

impl<'h> ProtocolHeaders<'h> {
    fn of(headers: &'h HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            let field = match name.as_str() {
                "content-type" => &mut found.content_type,
                "grpc-timeout" => &mut found.timeout,
                "grpc-encoding" => &mut found.encoding,
                "host" => {
                    found.hosts += 1;
                    continue;
                }
                _ => continue,
            };
            field.get_or_insert(value);
        }
        found
    }
}

/// Rejects a call without `te: trailers`. By this header a client declares that it detects no
/// intermediary that drops trailers (PROTOCOL-HTTP2, "Call-Definition").
pub(crate) fn require_te_trailers(headers: &HeaderMap) -> Result<(), Rejection> {
    match headers.get(TE) {
        Some(te) if te == "trailers" => Ok(()),
        _ => Err(Rejection::Status(Status::internal("missing header: wanted te: trailers"))),
    }
}

/// Whether the client's `grpc-accept-encoding` headers contain `encoding`.
pub(crate) fn accepts(headers: &HeaderMap, encoding: Encoding) -> bool {
    let mut lists = headers.get_all(GRPC_ACCEPT_ENCODING).iter();
    lists.any(|list| compression::lists(list, encoding))
}

fn unsupported(encoding: &HeaderValue, accepted: Encodings) -> Rejection {
    let name = String::from_utf8_lossy(encoding.as_bytes());
    let message = format!("grpc-encoding {name:?} is not supported: wanted one of {accepted:?}");
    let status = Status::unimplemented(message);
    Rejection::Status(status.with_log_message("grpc-encoding is not supported"))
}

/// Accepts `application/grpc`, alone or followed by `+proto` or `;parameters`.
fn check_content_type(value: Option<&HeaderValue>) -> Result<(), Rejection> {
    const NON_GRPC: Rejection = Rejection::NonGrpc(NonGrpc::UnsupportedMediaType);
    let value = value.ok_or(NON_GRPC)?;
    if *value == APPLICATION_GRPC {
        return Ok(());
    }
    let value = value.as_bytes().to_ascii_lowercase();
    let rest = value.strip_prefix(b"application/grpc").ok_or(NON_GRPC)?;
    match rest {
        [] | [b';', ..] => Ok(()),
        [b'+', subtype @ ..] => {
            let subtype = subtype.split(|byte| *byte == b';').next().unwrap_or_default();
            if subtype.trim_ascii() == b"proto" {
                return Ok(());
            }
            let text = String::from_utf8_lossy(subtype);
            let message = format!("no codec for the content subtype {text:?}: wanted proto");
            let status = Status::unimplemented(message);
            Err(Rejection::Status(status.with_log_message("no codec for the content subtype")))
        }
        _ => Err(NON_GRPC),
    }
}

impl NonGrpc {
    /// Returns the complete HTTP response, with a line of text for a person who uses an HTTP
    /// client.
    pub fn into_response(self) -> Response<Bytes> {
        let text =
            "This is a gRPC server: calls are POST, with a content-type of application/grpc.\n";
        let mut response = Response::new(Bytes::from_static(text.as_bytes()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        *response.status_mut() = match self {
            Self::MethodNotAllowed => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
                Status::internal("gRPC calls are POST").write_to(headers);
                StatusCode::METHOD_NOT_ALLOWED
            }
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        };
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn parse(
        verb: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<RequestHead, Rejection> {
        let mut request = http::Request::builder().method(verb).uri("/s/m");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        RequestHead::parse(&request.body(()).unwrap().into_parts().0)
    }

    fn non_grpc(parsed: Result<RequestHead, Rejection>) -> NonGrpc {
        match parsed {
            Err(Rejection::NonGrpc(non_grpc)) => non_grpc,
            parsed => panic!("{parsed:?}"),
        }
    }

    #[test]
    fn verb_other_than_post_is_405_and_internal() {
        let response = non_grpc(parse("GET", &[])).into_response();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "POST");
        assert_eq!(response.headers()["grpc-status"], "13");
    }

    #[test]
    fn content_type_other_than_grpc_is_a_bare_415() {
        let values = ["text/plain", "application/grpcfoo", "application/grpc-web", "application"];
        for value in values {
            let response = non_grpc(parse("POST", &[("content-type", value)])).into_response();
            assert_eq!(response.status(), 415, "{value}");
            let names: Vec<_> = response.headers().keys().collect();
            assert_eq!(names, ["content-type"]);
        }
        assert_eq!(non_grpc(parse("POST", &[])), NonGrpc::UnsupportedMediaType);
    }

    #[test]
    fn content_type_is_accepted_in_any_case() {
        for value in [
            "application/grpc",
            "Application/GRPC",
            "application/grpc+proto",
            "application/grpc;charset=utf-8",
            "application/grpc+PROTO; v=1",
        ] {
            assert!(parse("POST", &[("content-type", value)]).is_ok(), "{value}");
        }
    }

    #[test]
    fn content_subtype_without_codec_is_unimplemented() {
        let rejection = parse("POST", &[("content-type", "application/grpc+json")]).unwrap_err();
        let Rejection::Status(status) = rejection else { panic!("{rejection:?}") };
        assert_eq!(status.code(), Code::Unimplemented);
    }

    #[test]
    fn host_repeated_without_authority_is_internal() {
        let host = |name| [("content-type", "application/grpc"), ("host", "a"), ("host", name)];
        for name in ["a", "b"] {
            let Err(Rejection::Status(status)) = parse("POST", &host(name)) else { panic!() };
            assert_eq!(status.code(), Code::Internal);
        }
        assert!(parse("POST", &host("a")[..2]).is_ok());
    }

    #[test]
    fn timeout_that_is_malformed_is_internal() {
        let headers = [("content-type", "application/grpc"), ("grpc-timeout", "1x")];
        let Err(Rejection::Status(status)) = parse("POST", &headers) else { panic!() };
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().starts_with("malformed grpc-timeout"));
    }

    #[test]
    fn unsupported_encoding_is_unimplemented_and_lists_ours() {
        let headers = [("content-type", "application/grpc"), ("grpc-encoding", "snappy")];
        let Err(Rejection::Status(status)) = parse("POST", &headers) else { panic!() };
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("identity"));
    }

    #[test]
    fn encoding_identity_is_no_encoding() {
        let headers = [("content-type", "application/grpc"), ("grpc-encoding", "identity")];
        assert_eq!(parse("POST", &headers), Ok(RequestHead::default()));
    }

    #[test]
    #[cfg(feature = "gzip")]
    fn encoding_must_be_accepted_by_the_method() {
        let request = http::Request::post("/s/m").header("content-type", "application/grpc");
        let parts = request.header("grpc-encoding", "gzip").body(()).unwrap().into_parts().0;
        assert_eq!(RequestHead::parse(&parts).unwrap().encoding, Some(Encoding::GZIP));
        let rejection = RequestHead::parse_accepting(&parts, Encodings::of(&[])).unwrap_err();
        let Rejection::Status(status) = rejection else { panic!("{rejection:?}") };
        assert_eq!(status.code(), Code::Unimplemented);
    }

    #[test]
    #[cfg(feature = "gzip")]
    fn accept_encoding_is_found_in_any_of_several_lists() {
        let mut headers = HeaderMap::new();
        assert!(!accepts(&headers, Encoding::GZIP));
        headers.append(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("identity,br"));
        assert!(!accepts(&headers, Encoding::GZIP));
        headers.append(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("identity, gzip"));
        assert!(accepts(&headers, Encoding::GZIP));
    }

    #[test]
    fn te_must_be_trailers() {
        let mut headers = HeaderMap::new();
        for (te, allowed) in [(None, false), (Some("gzip"), false), (Some("trailers"), true)] {
            if let Some(te) = te {
                headers.insert(TE, HeaderValue::from_static(te));
            }
            assert_eq!(require_te_trailers(&headers).is_ok(), allowed, "{te:?}");
        }
    }
}

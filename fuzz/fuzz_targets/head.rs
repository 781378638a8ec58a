//! A request's head becomes a call or an answer. The input reads as an old-fashioned request:
//! the verb, then a header a line.
//!
//! ```text
//! POST
//! content-type:application/grpc
//! grpc-timeout:1S
//! ```

#![no_main]

use balafon::Code;
use balafon::grpc::head::{Rejection, RequestHead};
use balafon::grpc::timeout;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request};
use libfuzzer_sys::fuzz_target;

/// What the library never makes up by itself (`statuscodes.md` of the gRPC documentation), and OK,
/// which is no rejection.
const NOT_OURS: [Code; 8] = [
    Code::Ok,
    Code::InvalidArgument,
    Code::NotFound,
    Code::AlreadyExists,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::DataLoss,
];

fuzz_target!(|input: &[u8]| {
    let parts = parts(input);
    match RequestHead::parse(&parts) {
        Ok(head) => check_call(&parts, head),
        Err(rejection) => check_answer(rejection),
    }
});

fn parts(input: &[u8]) -> Parts {
    let mut lines = input.split(|byte| *byte == b'\n');
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(lines.next().unwrap_or_default()).unwrap_or(Method::POST);
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            parts.headers.append(name, value);
        }
    }
    parts
}

fn check_call(parts: &Parts, head: RequestHead) {
    assert_eq!(parts.method, Method::POST);
    let content_type = parts.headers["content-type"].as_bytes().to_ascii_lowercase();
    assert!(content_type.starts_with(b"application/grpc"));
    let timeout = parts.headers.get("grpc-timeout").map(|value| timeout::parse(value.as_bytes()));
    assert_eq!(head.timeout, timeout.and_then(|parsed| parsed.expect("the call was accepted")));
}

fn check_answer(rejection: Rejection) {
    let response = match rejection {
        Rejection::Status(status) => {
            let code = status.code();
            return assert!(!NOT_OURS.contains(&code), "the library made up {code}");
        }
        Rejection::NonGrpc(non_grpc) => non_grpc.into_response(),
        rejection => panic!("{rejection:?} is not known here"),
    };
    let headers = response.headers();
    assert!(!headers["content-type"].as_bytes().starts_with(b"application/grpc"));
    match response.status().as_u16() {
        405 => {
            assert_eq!(headers["allow"], "POST");
            assert_eq!(headers["grpc-status"], (Code::Internal as i32).to_string());
        }
        status => {
            assert_eq!(status, 415);
            assert!(!headers.contains_key("grpc-status"));
        }
    }
}

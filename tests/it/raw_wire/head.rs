//! The head of a request.

use balafon::{AsciiKey, BinaryKey, Code, Request, Response, Router};
use h2::Reason;

use super::{
    UNARY, Witness, assert_alive, assert_served, assert_trailers_only, echo, mirror, serve, status,
    unary,
};
use crate::support::echo::Echo;
use crate::support::is_native;
use crate::support::peer::framed;
use crate::support::raw::{Frame, MAX_HEADER_LIST_SIZE, head, head_with, set};

#[tokio::test]
async fn content_subtype_without_a_codec_is_unimplemented() {
    let (_server, _, mut raw) = echo().await;
    let mut fields = head(UNARY);
    set(&mut fields, "content-type", "application/grpc+json");
    raw.request(1, &fields, &framed("a")).await;
    assert_trailers_only(&raw.answer(1).await, "12");
}

#[tokio::test]
async fn content_type_is_case_insensitive() {
    let (_server, _, mut raw) = echo().await;
    let values = ["application/grpc", "Application/GRPC+Proto", "application/grpc;charset=utf-8"];
    for (stream, value) in (1..).step_by(2).zip(values) {
        let mut fields = head(UNARY);
        set(&mut fields, "content-type", value);
        raw.request(stream, &fields, &framed("a")).await;
        let answer = raw.answer(stream).await;
        assert_eq!(answer[0].field("content-type"), Some("application/grpc"), "{value}");
        assert_served(&answer, &["a"]);
    }
}

#[tokio::test]
async fn non_grpc_is_answered_in_http() {
    let (_server, _, mut raw) = echo().await;
    let mut get = head(UNARY);
    set(&mut get, ":method", "GET");
    let mut of_head = head(UNARY);
    set(&mut of_head, ":method", "HEAD");
    let mut foreign = head(UNARY);
    set(&mut foreign, "content-type", "application/grpc-web+proto");
    let cases = [(get, "405", Some("13")), (of_head, "405", Some("13")), (foreign, "415", None)];
    for (stream, (fields, http, grpc)) in (1..).step_by(2).zip(cases) {
        raw.headers(stream, &fields, true).await;
        let answer = raw.answer(stream).await;
        assert_eq!(answer[0].field(":status"), Some(http));
        assert_eq!(answer[0].field("grpc-status"), grpc);
        assert_eq!(answer[0].field("allow"), grpc.map(|_| "POST"));
        assert_eq!(answer[0].field("content-type"), Some("text/plain; charset=utf-8"));
        let content: usize = answer[1..].iter().map(|frame| frame.payload.len()).sum();
        assert_eq!(content == 0, fields[0].1 == "HEAD");
    }
    assert_alive(&mut raw, 7).await;
}

#[tokio::test]
async fn te_other_than_trailers_is_refused_by_h2() {
    let (_server, _, mut raw) = echo().await;
    let mut fields = head(UNARY);
    set(&mut fields, "te", "gzip");
    raw.request(1, &fields, &framed("a")).await;
    assert!(raw.next_of(1).await.is_reset(Reason::PROTOCOL_ERROR));
    assert_alive(&mut raw, 3).await;
}

#[tokio::test]
async fn path_needs_one_leading_slash() {
    let (_server, _, mut raw) = echo().await;
    raw.request(1, &head("test.Echo/Unary"), &framed("a")).await;
    assert!(raw.next_of(1).await.is_reset(Reason::PROTOCOL_ERROR));
    let unknown =
        ["//test.Echo/Unary", "/test.Echo//Unary", "/test.Echo/Unary/", "/test.Echo", "*"];
    for (stream, path) in (3..).step_by(2).zip(unknown) {
        raw.request(stream, &head(path), &framed("a")).await;
        assert_trailers_only(&raw.answer(stream).await, "12");
    }
}

#[tokio::test]
async fn path_includes_the_query_and_not_the_fragment() {
    let witness = Witness::default();
    let router = Router::new().intercept(witness.clone()).add(Echo::default().service());
    let (_server, mut raw) = serve(router).await;
    let paths = [
        ("/test.Echo/Unary?a=b", Code::Unimplemented, "/test.Echo/Unary?a=b"),
        ("/test.Echo/Unary?", Code::Unimplemented, "/test.Echo/Unary?"),
        ("/test.Echo/%55nary", Code::Unimplemented, "/test.Echo/%55nary"),
    ];
    for (stream, (sent, code, seen)) in (1..).step_by(2).zip(paths) {
        raw.request(stream, &head(sent), &framed("a")).await;
        let answer = raw.answer(stream).await;
        assert_eq!(status(&answer), (code as i32).to_string(), "{sent}");
        // The authorized path is the routed path.
        assert_eq!(witness.next().await, (code, seen.to_owned()));
    }
    // RFC 9113, 8.3.1: a path has no fragment. h2 removes it.
    raw.request(7, &head("/test.Echo/Unary#fragment"), &framed("a")).await;
    if is_native() {
        assert!(raw.next_of(7).await.is_reset(Reason::PROTOCOL_ERROR));
    } else {
        assert_eq!(status(&raw.answer(7).await), "0");
        assert_eq!(witness.next().await, (Code::Ok, UNARY.to_owned()));
    }
}

#[tokio::test]
async fn authority_and_host_may_come_once() {
    let (_server, _, mut raw) = echo().await;
    let mut fields = head(UNARY);
    fields.insert(4, (":authority", "other"));
    raw.request(1, &fields, &framed("a")).await;
    assert!(raw.next_of(1).await.is_reset(Reason::PROTOCOL_ERROR));

    let mut fields = head_with(UNARY, &[("host", "test"), ("host", "other")]);
    fields.retain(|(name, _)| *name != ":authority");
    raw.request(3, &fields, &framed("a")).await;
    assert_trailers_only(&raw.answer(3).await, "13");
    assert_alive(&mut raw, 5).await;
}

#[tokio::test]
async fn host_is_used_only_without_an_authority() {
    let router = mirror(|call, _| {
        let host = call.metadata().as_headers().contains_key("host");
        Ok(format!("{:?} {host}", call.authority()))
    });
    let (_server, mut raw) = serve(router).await;
    let path = "/test.Own/Unary";
    let mut fields = head_with(path, &[("host", "by-host")]);
    raw.request(1, &fields, &framed("")).await;
    assert_served(&raw.answer(1).await, &[r#"Some("test") false"#]);
    fields.retain(|(name, _)| *name != ":authority");
    raw.request(3, &fields, &framed("")).await;
    assert_served(&raw.answer(3).await, &[r#"Some("by-host") true"#]);
    fields.pop();
    raw.request(5, &fields, &framed("")).await;
    assert_served(&raw.answer(5).await, &["None false"]);
}

#[tokio::test]
async fn size_limit_refuses_the_stream_alone() {
    let (_server, echo, mut raw) = echo().await;
    assert!(raw.settings.contains(&(MAX_HEADER_LIST_SIZE, 16 * 1024)));
    let large = "x".repeat(20 * 1024);
    raw.request(1, &head_with(UNARY, &[("x-large", &large)]), &framed("a")).await;
    let answer = raw.answer(1).await;
    assert_eq!(answer[0].field(":status"), Some("431"), "{answer:?}");
    assert_alive(&mut raw, 3).await;
    echo.until_running(0).await;

    let fits = "x".repeat(15 * 1024);
    raw.request(5, &head_with(UNARY, &[("x-large", &fits)]), &framed("a")).await;
    assert_served(&raw.answer(5).await, &["a"]);
}

#[tokio::test]
async fn size_far_over_the_limit_ends_the_connection() {
    let (_server, _, mut raw) = echo().await;
    let huge = "x".repeat(80 * 1024);
    raw.headers(1, &head_with(UNARY, &[("x-huge", &huge)]), false).await;
    let goodbye = raw.goodbye().await.unwrap();
    assert_eq!(goodbye.reason(), Reason::ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn values_outside_ascii_are_never_an_error() {
    let router = mirror(|call, _| {
        static ODD: AsciiKey = AsciiKey::from_static("x-odd");
        static PLAIN: AsciiKey = AsciiKey::from_static("x-plain");
        Ok(format!("{:?} {:?}", call.metadata().get(&ODD), call.metadata().get(&PLAIN)))
    });
    let (_server, mut raw) = serve(router).await;
    let values: [&[u8]; 3] = [b"caf\xe9", "caf\u{e9}".as_bytes(), b"\xff\x80"];
    for (stream, odd) in (1..).step_by(2).zip(values) {
        let fields = head("/test.Own/Unary");
        let mut fields: Vec<_> =
            fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        fields.extend([(&b"x-odd"[..], odd), (b"x-plain", b"plain")]);
        raw.headers_of_bytes(stream, &fields, false).await;
        raw.data(stream, &framed(""), true).await;
        assert_served(&raw.answer(stream).await, &[r#"None Some("plain")"#]);
    }
}

#[tokio::test]
async fn forbidden_http2_headers_end_the_connection_in_h2() {
    // RFC 9113, 8.1.1: a malformed request is an error of its stream. h2 closes the connection.
    for (name, value) in [("X-Upper", "a"), ("x-control", "a\u{1}b"), ("x-newline", "a\r\nb")] {
        let (_server, _, mut raw) = echo().await;
        raw.request(1, &head_with(UNARY, &[(name, value)]), &framed("a")).await;
        if is_native() {
            assert!(raw.next_of(1).await.is_reset(Reason::PROTOCOL_ERROR), "{name}");
            continue;
        }
        let goodbye = raw.goodbye().await.unwrap();
        assert_eq!(goodbye.reason(), Reason::PROTOCOL_ERROR, "{name}");
    }
}

#[tokio::test]
async fn reserved_names_of_the_application_are_dropped() {
    let router = unary((), |_, request: Request<String>| async move {
        let mut response = Response::new(request.message);
        for name in ["grpc-status", "grpc-encoding", "content-type", "te", "user-agent", "x-own"] {
            let key = AsciiKey::try_from(name).unwrap();
            response.metadata.insert(&key, 7);
            response.trailers.insert(&key, 7);
        }
        Ok(response)
    });
    let (_server, mut raw) = serve(router).await;
    raw.request(1, &head("/test.Own/Unary"), &framed("a")).await;
    let answer = raw.answer(1).await;
    assert_served(&answer, &["a"]);
    let names =
        |frame: &Frame| frame.fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&answer[0]), [":status", "x-own", "content-type", "grpc-accept-encoding"]);
    assert_eq!(answer[0].field("content-type"), Some("application/grpc"));
    assert_eq!(names(&answer[2]), ["x-own", "grpc-status"]);
}

#[tokio::test]
async fn duplicate_keys_keep_their_order() {
    let router = mirror(|call, key| {
        let key = AsciiKey::try_from(key).unwrap();
        Ok(call.metadata().get_all(&key).collect::<Vec<_>>().join("|"))
    });
    let (_server, mut raw) = serve(router).await;
    let more = [("x-a", "1"), ("x-b", "2"), ("x-a", "3, 4"), ("x-a", "5")];
    raw.request(1, &head_with("/test.Own/Unary", &more), &framed("x-a")).await;
    assert_served(&raw.answer(1).await, &["1|3, 4|5"]);
}

#[tokio::test]
async fn binary_values_may_be_padded_or_joined() {
    static BYTES: BinaryKey = BinaryKey::from_static("x-bytes-bin");
    let router = unary((), |_, request: Request<String>| async move {
        let mut response = Response::new(String::new());
        for value in request.metadata().get_all_bin(&BYTES) {
            response.trailers.append_bin(&BYTES, value?);
        }
        Ok(response)
    });
    let (_server, mut raw) = serve(router).await;
    let more =
        [("x-bytes-bin", "AQIDBA=="), ("x-bytes-bin", "AQIDBA"), ("x-bytes-bin", "/+8=, AQ,AQ==")];
    raw.request(1, &head_with("/test.Own/Unary", &more), &framed("")).await;
    let answer = raw.answer(1).await;
    assert_served(&answer, &[""]);
    let sent = answer.last().unwrap().all("x-bytes-bin");
    assert_eq!(sent, ["AQIDBA", "AQIDBA", "/+8", "AQ", "AQ"]);

    // The handler returns the error by `?`.
    let more = [("x-bytes-bin", "AQ"), ("x-bytes-bin", "no base64!")];
    raw.request(3, &head_with("/test.Own/Unary", &more), &framed("")).await;
    assert_trailers_only(&raw.answer(3).await, "13");
}

#[tokio::test]
async fn invalid_base64_left_unread_is_no_error() {
    let (_server, _, mut raw) = echo().await;
    let more = [("grpc-trace-bin", "%%%"), ("x-bytes-bin", "\u{7e}=")];
    raw.request(1, &head_with(UNARY, &more), &framed("a")).await;
    assert_served(&raw.answer(1).await, &["a"]);
}

#[tokio::test]
async fn malformed_timeout_is_internal_and_named() {
    let (_server, _, mut raw) = echo().await;
    let values = ["1x", "", "S", "1", "123456789S", "-1S", "+1S", "1.5S", "1s", "1 S"];
    for (stream, value) in (1..).step_by(2).zip(values) {
        raw.request(stream, &head_with(UNARY, &[("grpc-timeout", value)]), &framed("a")).await;
        let answer = raw.answer(stream).await;
        assert_trailers_only(&answer, "13");
        let message = answer[0].field("grpc-message").unwrap();
        assert!(message.starts_with("malformed grpc-timeout"), "{value}: {message}");
    }
}

#[tokio::test]
async fn huge_timeout_is_no_deadline() {
    let router = mirror(|call, _| Ok(format!("{:?}", call.time_left())));
    let (_server, mut raw) = serve(router).await;
    let more = [("grpc-timeout", "99999999H")];
    raw.request(1, &head_with("/test.Own/Unary", &more), &framed("")).await;
    assert_served(&raw.answer(1).await, &["None"]);
}

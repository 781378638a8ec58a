//! The rules of the wire that a well-behaved client cannot put to the test, frame by frame. Which
//! rule has its tests where: RULES.md.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use balafon::{
    AsciiKey, BinaryKey, Call, Code, Interceptor, Next, Outcome, Request, Response, Router, Rpc,
    Server, Service, Sink, Status,
};
use h2::Reason;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::support::echo::Echo;
use crate::support::peer::framed;
use crate::support::raw::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE, PING, RST_STREAM, Raw, head, head_with, set,
};
use crate::support::{TestServer, patiently};

const UNARY: &str = "/test.Echo/Unary";
const SERVER: &str = "/test.Echo/Server";
const CLIENT: &str = "/test.Echo/Client";
const BIDI: &str = "/test.Echo/Bidi";

const PADDED: u8 = 0x8;

/// A server that lets its clients ping, as [`Raw::settled`] does.
fn server() -> Server {
    Server::new().permit_pings(Duration::ZERO, true)
}

async fn echo() -> (TestServer, Echo, Raw) {
    echo_with(server(), &[]).await
}

async fn echo_with(server: Server, settings: &[(u16, u32)]) -> (TestServer, Echo, Raw) {
    let echo = Echo::default();
    let server = TestServer::start_with(server, Router::new().add(echo.service())).await;
    let raw = Raw::connect_with(server.addr, settings).await;
    (server, echo, raw)
}

async fn serve(router: Router) -> (TestServer, Raw) {
    let server = TestServer::start_with(server(), router).await;
    let raw = Raw::connect(server.addr).await;
    (server, raw)
}

static OWN_UNARY: Rpc<String, String> = Rpc::unary("/test.Own/Unary");
static OWN_SERVER: Rpc<String, String> = Rpc::server_streaming("/test.Own/Server");

/// A service of one method, `/test.Own/Unary`.
fn unary<T, F, Fut>(target: T, function: F) -> Router
where
    T: Send + Sync + 'static,
    F: Fn(Arc<T>, Request<String>) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<String>, Status>> + Send + 'static,
{
    Router::new().add(Service::builder("test.Own", &[], target).unary(&OWN_UNARY, function).build())
}

/// Answers with what `look` makes of the call.
fn mirror(look: fn(&Call, &str) -> Result<String, Status>) -> Router {
    unary(look, |look, request: Request<String>| async move {
        Ok(Response::new(look(&request, &request.message)?))
    })
}

/// Keeps how each call ended, and the path that it had.
#[derive(Clone, Default)]
struct Witness {
    seen: Arc<Mutex<Vec<(Code, String)>>>,
    told: Arc<Notify>,
}

impl Interceptor for Witness {
    async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
        let path = call.path().to_owned();
        let outcome = next.run(call).await;
        self.seen.lock().unwrap().push((outcome.status.code(), path));
        self.told.notify_one();
        outcome
    }
}

impl Witness {
    /// Waits for the end of a call.
    async fn next(&self) -> (Code, String) {
        patiently(self.told.notified()).await;
        let mut seen = self.seen.lock().unwrap();
        assert_eq!(seen.len(), 1);
        seen.remove(0)
    }
}

/// The messages in the DATA frames of an answer.
fn messages(frames: &[Frame]) -> Vec<String> {
    use balafon::grpc::frame::FrameDecoder;
    use balafon::prost::Message;

    let mut decoder = FrameDecoder::new(usize::MAX);
    let data = frames.iter().filter(|frame| frame.kind == DATA);
    data.for_each(|frame| decoder.push(frame.payload.clone()));
    let mut messages = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        messages.push(String::decode(frame.payload).unwrap());
    }
    decoder.end().unwrap();
    messages
}

/// The status of an answer, of which there has to be exactly one, in the last frame.
fn status(frames: &[Frame]) -> &str {
    let (last, earlier) = frames.split_last().unwrap();
    assert!(earlier.iter().all(|frame| frame.all("grpc-status").is_empty()), "{frames:?}");
    assert!(earlier.iter().all(|frame| frame.all("grpc-message").is_empty()), "{frames:?}");
    let _at_most_one = last.field("grpc-message");
    last.field("grpc-status").unwrap_or_else(|| panic!("no status: {frames:?}"))
}

#[track_caller]
fn assert_trailers_only(frames: &[Frame], code: &str) {
    let [frame] = frames else { panic!("{frames:?}") };
    assert_eq!((frame.kind, frame.flags), (HEADERS, END_HEADERS | END_STREAM));
    assert_eq!(frame.field(":status"), Some("200"));
    assert_eq!(frame.field("content-type"), Some("application/grpc"));
    assert_eq!(status(frames), code);
}

#[track_caller]
fn assert_served(frames: &[Frame], expected: &[&str]) {
    assert_eq!(status(frames), "0", "{frames:?}");
    assert_eq!(messages(frames), expected);
}

/// The connection still serves.
async fn assert_alive(raw: &mut Raw, stream: u32) {
    raw.request(stream, &head(UNARY), &framed("alive")).await;
    assert_served(&raw.answer(stream).await, &["alive"]);
}

// Request head.

#[tokio::test]
async fn a_content_subtype_without_a_codec_is_unimplemented() {
    let (_server, _, mut raw) = echo().await;
    let mut fields = head(UNARY);
    set(&mut fields, "content-type", "application/grpc+json");
    raw.request(1, &fields, &framed("a")).await;
    assert_trailers_only(&raw.answer(1).await, "12");
}

#[tokio::test]
async fn a_content_type_is_compared_in_lower_case_and_answered_with_ours() {
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
async fn what_is_not_grpc_is_answered_in_http_and_without_content_to_head() {
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
async fn a_te_other_than_trailers_is_refused_by_h2() {
    let (_server, _, mut raw) = echo().await;
    let mut fields = head(UNARY);
    set(&mut fields, "te", "gzip");
    raw.request(1, &fields, &framed("a")).await;
    assert!(raw.next_of(1).await.is_reset(Reason::PROTOCOL_ERROR));
    assert_alive(&mut raw, 3).await;
}

#[tokio::test]
async fn a_path_without_a_leading_slash_is_refused_by_h2_and_a_second_one_is_unknown() {
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
async fn a_query_is_part_of_the_path_and_a_fragment_is_cut_off_by_h2() {
    let witness = Witness::default();
    let router = Router::new().intercept(witness.clone()).add(Echo::default().service());
    let (_server, mut raw) = serve(router).await;
    let paths = [
        ("/test.Echo/Unary?a=b", Code::Unimplemented, "/test.Echo/Unary?a=b"),
        ("/test.Echo/Unary?", Code::Unimplemented, "/test.Echo/Unary?"),
        ("/test.Echo/%55nary", Code::Unimplemented, "/test.Echo/%55nary"),
        ("/test.Echo/Unary#fragment", Code::Ok, UNARY),
    ];
    for (stream, (sent, code, seen)) in (1..).step_by(2).zip(paths) {
        raw.request(stream, &head(sent), &framed("a")).await;
        let answer = raw.answer(stream).await;
        assert_eq!(status(&answer), (code as i32).to_string(), "{sent}");
        // What is authorized is what is routed.
        assert_eq!(witness.next().await, (code, seen.to_owned()));
    }
}

#[tokio::test]
async fn several_authorities_or_hosts_are_refused() {
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
async fn the_host_is_used_without_an_authority_and_dropped_beside_one() {
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
async fn headers_over_the_limit_refuse_the_stream_and_the_connection_lives() {
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
async fn headers_far_over_the_limit_end_the_connection() {
    let (_server, _, mut raw) = echo().await;
    let huge = "x".repeat(80 * 1024);
    raw.headers(1, &head_with(UNARY, &[("x-huge", &huge)]), false).await;
    let goodbye = raw.goodbye().await.unwrap();
    assert_eq!(goodbye.reason(), Reason::ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn header_values_outside_ascii_are_never_an_error() {
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
async fn what_http2_forbids_in_headers_ends_the_connection_in_h2() {
    for (name, value) in [("X-Upper", "a"), ("x-control", "a\u{1}b"), ("x-newline", "a\r\nb")] {
        let (_server, _, mut raw) = echo().await;
        raw.request(1, &head_with(UNARY, &[(name, value)]), &framed("a")).await;
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
async fn binary_values_come_padded_unpadded_and_joined_and_leave_unpadded() {
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

    // The handler passes the fault on by `?`.
    let more = [("x-bytes-bin", "AQ"), ("x-bytes-bin", "no base64!")];
    raw.request(3, &head_with("/test.Own/Unary", &more), &framed("")).await;
    assert_trailers_only(&raw.answer(3).await, "13");
}

#[tokio::test]
async fn invalid_base64_that_nobody_reads_is_no_error() {
    let (_server, _, mut raw) = echo().await;
    let more = [("grpc-trace-bin", "%%%"), ("x-bytes-bin", "\u{7e}=")];
    raw.request(1, &head_with(UNARY, &more), &framed("a")).await;
    assert_served(&raw.answer(1).await, &["a"]);
}

#[tokio::test]
async fn a_malformed_timeout_is_internal_and_says_so() {
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
async fn a_huge_timeout_is_no_deadline() {
    let router = mirror(|call, _| Ok(format!("{:?}", call.time_left())));
    let (_server, mut raw) = serve(router).await;
    let more = [("grpc-timeout", "99999999H")];
    raw.request(1, &head_with("/test.Own/Unary", &more), &framed("")).await;
    assert_served(&raw.answer(1).await, &["None"]);
}

// Deadlines and cancellation.

#[tokio::test]
async fn the_deadline_runs_from_the_headers_although_nothing_follows_them() {
    let (_server, echo, mut raw) = echo().await;
    for (stream, path) in [(1, UNARY), (3, SERVER), (5, CLIENT), (7, BIDI)] {
        raw.headers(stream, &head_with(path, &[("grpc-timeout", "50m")]), false).await;
        assert_trailers_only(&raw.answer(stream).await, "4");
        assert!(raw.next_of(stream).await.is_reset(Reason::NO_ERROR));
    }
    echo.until_running(0).await;
}

#[tokio::test]
async fn without_any_window_headers_arrive_and_trailers_at_the_deadline() {
    let (_server, echo, mut raw) = echo_with(server(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    raw.request(1, &head_with(SERVER, &[("grpc-timeout", "100m")]), &framed("wait")).await;
    let [headers, trailers] = &raw.answer(1).await[..] else { panic!() };
    assert!(!headers.ends());
    assert_eq!(headers.field(":status"), Some("200"));
    assert_eq!(trailers.field("grpc-status"), Some("4"));
    echo.until_running(0).await;
}

#[tokio::test]
async fn without_any_window_an_answer_without_messages_arrives() {
    let (_server, _, mut raw) = echo_with(server(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    raw.request(1, &head(UNARY), &framed("fail")).await;
    assert_trailers_only(&raw.answer(1).await, "5");
    raw.request(3, &head(SERVER), &framed("count 0")).await;
    assert_served(&raw.answer(3).await, &[]);
}

#[tokio::test]
async fn a_message_that_is_partly_sent_at_the_deadline_is_followed_by_cancel() {
    let (_server, echo, mut raw) = echo_with(server(), &[(INITIAL_WINDOW_SIZE, 3)]).await;
    raw.request(1, &head_with(SERVER, &[("grpc-timeout", "100m")]), &framed("wait")).await;
    let [_, data, reset] = &raw.answer(1).await[..] else { panic!() };
    assert_eq!((data.kind, data.payload.len()), (DATA, 3));
    assert!(reset.is_reset(Reason::CANCEL));
    echo.until_running(0).await;
    assert_alive_within(&mut raw, 3).await;
}

/// For a window that is too small for an answer of its own.
async fn assert_alive_within(raw: &mut Raw, stream: u32) {
    raw.headers(stream, &head(UNARY), false).await;
    raw.window(stream, 1024).await;
    raw.data(stream, &framed("alive"), true).await;
    assert_served(&raw.answer(stream).await, &["alive"]);
}

#[tokio::test]
async fn the_deadline_ends_a_handler_that_is_never_idle() {
    let router = unary((), |_, _: Request<String>| async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    let (_server, mut raw) = serve(router).await;
    let fields = head_with("/test.Own/Unary", &[("grpc-timeout", "50m")]);
    raw.request(1, &fields, &framed("")).await;
    assert_trailers_only(&raw.answer(1).await, "4");
}

#[tokio::test]
async fn a_handler_sees_its_deadline() {
    let router = mirror(|call, _| {
        let left = call.time_left().unwrap();
        assert!(call.deadline().is_some());
        Ok(format!("{}", left > Duration::from_secs(50) && left <= Duration::from_secs(60)))
    });
    let (_server, mut raw) = serve(router).await;
    let fields = head_with("/test.Own/Unary", &[("grpc-timeout", "1M")]);
    raw.request(1, &fields, &framed("")).await;
    assert_served(&raw.answer(1).await, &["true"]);
}

#[tokio::test]
async fn a_task_of_a_handler_sees_the_cancellation() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let router = unary(tell, |tell, request: Request<String>| async move {
        let cancellation = request.cancellation();
        tokio::spawn(async move { tell.send(cancellation.cancelled().await) });
        std::future::pending().await
    });
    let (_server, mut raw) = serve(router).await;
    raw.request(1, &head("/test.Own/Unary"), &framed("")).await;
    raw.settled().await;
    raw.reset(1, Reason::CANCEL).await;
    assert_eq!(patiently(told.recv()).await.unwrap().code(), Code::Cancelled);
}

#[tokio::test]
async fn a_reset_before_the_first_message_is_cancelled_and_not_a_missing_message() {
    let witness = Witness::default();
    let echo = Echo::default();
    let (_server, mut raw) =
        serve(Router::new().intercept(witness.clone()).add(echo.service())).await;
    for (stream, path) in [(1, UNARY), (3, SERVER), (5, CLIENT), (7, BIDI)] {
        raw.headers(stream, &head(path), false).await;
        raw.settled().await;
        raw.reset(stream, Reason::CANCEL).await;
        assert_eq!(witness.next().await.0, Code::Cancelled, "{path}");
    }
    // In one packet with the headers: the call may never come to be, but does not fail otherwise.
    raw.headers(9, &head(UNARY), false).await;
    raw.reset(9, Reason::CANCEL).await;
    raw.settled().await;
    let seen = witness.seen.lock().unwrap().pop();
    assert!(seen.is_none_or(|(code, _)| code == Code::Cancelled));
    echo.until_running(0).await;
}

#[tokio::test]
async fn reset_codes_map_as_the_protocol_says() {
    let witness = Witness::default();
    let echo = Echo::default();
    let (_server, mut raw) =
        serve(Router::new().intercept(witness.clone()).add(echo.service())).await;
    let map = [
        (Reason::CANCEL, Code::Cancelled),
        (Reason::REFUSED_STREAM, Code::Unavailable),
        (Reason::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
        (Reason::INADEQUATE_SECURITY, Code::PermissionDenied),
        (Reason::NO_ERROR, Code::Internal),
        (Reason::PROTOCOL_ERROR, Code::Internal),
        (Reason::INTERNAL_ERROR, Code::Internal),
        (Reason::FLOW_CONTROL_ERROR, Code::Internal),
        (Reason::STREAM_CLOSED, Code::Internal),
        (Reason::CONNECT_ERROR, Code::Internal),
        (Reason::HTTP_1_1_REQUIRED, Code::Internal),
        (Reason::from(0xff), Code::Internal),
    ];
    // Before the response headers, after them, and while the client's input has ended.
    let mut streams = (1..).step_by(2);
    for (reason, code) in map {
        for (path, message, end) in
            [(CLIENT, "wait", false), (BIDI, "a", false), (UNARY, "wait", true)]
        {
            let stream = streams.next().unwrap();
            raw.headers(stream, &head(path), false).await;
            raw.data(stream, &framed(message), end).await;
            echo.until_running(1).await;
            if path == BIDI {
                assert_eq!(raw.next_of(stream).await.kind, HEADERS);
            }
            raw.reset(stream, reason).await;
            assert_eq!(witness.next().await.0, code, "{reason:?} {path}");
            echo.until_running(0).await;
        }
    }
}

#[tokio::test]
async fn the_request_stream_reports_a_reset_and_never_a_clean_end() {
    static STREAM: Rpc<String, String> = Rpc::client_streaming("/test.Own/Stream");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    // One handler reads by itself, the other in a task that outlives it.
    let service = Service::builder("test.Own", &[], tell).client_streaming(
        &STREAM,
        |tell, request| async move {
            let mut messages = request.into_message();
            let first: String = messages.message().await?.unwrap();
            let rest = async move { tell.send(messages.message().await) };
            if first == "task" {
                tokio::spawn(rest);
            } else {
                rest.await.unwrap();
            }
            std::future::pending().await
        },
    );
    let (_server, mut raw) = serve(Router::new().add(service.build())).await;
    for (stream, (how, reason)) in (1..).step_by(2).zip([
        ("here", Reason::CANCEL),
        ("task", Reason::CANCEL),
        ("here", Reason::NO_ERROR),
    ]) {
        raw.headers(stream, &head("/test.Own/Stream"), false).await;
        raw.data(stream, &framed(how), false).await;
        raw.settled().await;
        raw.reset(stream, reason).await;
        let seen = patiently(told.recv()).await.unwrap();
        let expected = if reason == Reason::CANCEL { Code::Cancelled } else { Code::Internal };
        assert_eq!(seen.unwrap_err().code(), expected, "{how} {reason:?}");
    }
}

// Messages.

#[tokio::test]
async fn no_message_is_an_end_in_the_headers_or_an_empty_data_frame() {
    let (_server, _, mut raw) = echo().await;
    let mut streams = (1..).step_by(2);
    for in_headers in [true, false] {
        for path in [UNARY, SERVER, CLIENT, BIDI] {
            let stream = streams.next().unwrap();
            raw.headers(stream, &head(path), in_headers).await;
            if !in_headers {
                raw.data(stream, &[], true).await;
            }
            let answer = raw.answer(stream).await;
            match path {
                CLIENT => assert_served(&answer, &[""]),
                BIDI => assert_served(&answer, &[]),
                _ => assert_trailers_only(&answer, "12"),
            }
        }
    }
}

#[tokio::test]
async fn a_handler_of_one_message_runs_after_the_half_close() {
    let (_server, echo, mut raw) = echo().await;
    for (stream, path) in [(1, UNARY), (3, SERVER)] {
        raw.headers(stream, &head(path), false).await;
        raw.data(stream, &framed("wait"), false).await;
        raw.settled().await;
        echo.until_running(0).await;
        raw.data(stream, &[], true).await;
        echo.until_running(1).await;
        raw.reset(stream, Reason::CANCEL).await;
        echo.until_running(0).await;
    }
}

#[tokio::test]
async fn a_compressed_message_under_identity_is_internal() {
    let (_server, _, mut raw) = echo().await;
    let mut message = framed("a").to_vec();
    message[0] = 1;
    for (stream, more) in [(1, &[][..]), (3, &[("grpc-encoding", "identity")])] {
        raw.request(stream, &head_with(UNARY, more), &message).await;
        assert_trailers_only(&raw.answer(stream).await, "13");
    }
}

#[tokio::test]
async fn a_message_of_no_length_is_valid() {
    let (_server, _, mut raw) = echo().await;
    raw.request(1, &head(UNARY), &[0; 5]).await;
    let answer = raw.answer(1).await;
    assert_eq!(*answer[1].payload, [0; 5]);
    assert_served(&answer, &[""]);
    raw.request(3, &head(BIDI), &[0; 15]).await;
    assert_served(&raw.answer(3).await, &["", "", ""]);
}

#[tokio::test]
async fn data_frames_of_one_byte_are_messages_all_the_same() {
    let (_server, _, mut raw) = echo().await;
    raw.headers(1, &head(CLIENT), false).await;
    for byte in framed("word").repeat(200) {
        raw.data(1, &[byte], false).await;
    }
    raw.data(1, &[], true).await;
    assert_served(&raw.answer(1).await, &[&["word"; 200].join(" ")]);
}

#[tokio::test]
async fn trailers_of_a_request_are_no_error() {
    let (_server, _, mut raw) = echo().await;
    for (stream, path) in [(1, UNARY), (3, CLIENT)] {
        raw.headers(stream, &head(path), false).await;
        raw.data(stream, &framed("a"), false).await;
        raw.headers(stream, &[("x-trailer", "1")], true).await;
        assert_served(&raw.answer(stream).await, &["a"]);
    }
}

#[tokio::test]
async fn padding_is_no_part_of_a_message() {
    let (_server, _, mut raw) = echo().await;
    raw.headers(1, &head(UNARY), false).await;
    let padded = [&[3][..], &framed("a"), &[0; 3]].concat();
    raw.send(DATA, PADDED | END_STREAM, 1, &padded).await;
    assert_served(&raw.answer(1).await, &["a"]);
}

#[tokio::test]
async fn a_message_over_the_limit_is_answered_while_the_client_still_sends() {
    let (_server, echo, mut raw) = echo().await;
    for (stream, path) in [(1, UNARY), (3, CLIENT)] {
        raw.headers(stream, &head(path), false).await;
        // 4 MiB are the default, and a byte.
        raw.data(stream, &[0, 0, 0x40, 0, 1], false).await;
        raw.data(stream, &[b'x'; 1000], false).await;
        assert_trailers_only(&raw.answer(stream).await, "8");
        assert!(raw.next_of(stream).await.is_reset(Reason::NO_ERROR));
        // It goes on for a while: it has not yet seen the answer.
        raw.data(stream, &[b'x'; 1000], false).await;
    }
    echo.until_running(0).await;
    assert_alive(&mut raw, 5).await;
}

// Response.

#[tokio::test]
async fn every_answer_has_exactly_one_status() {
    let (_server, _, mut raw) = echo().await;
    let cases = [
        (UNARY, "a", "0"),
        (UNARY, "fail", "5"),
        (UNARY, "panic", "2"),
        (UNARY, "metadata", "0"),
        (SERVER, "count 3", "0"),
        (SERVER, "count 0", "0"),
        (SERVER, "fail", "5"),
        (CLIENT, "a", "0"),
        (BIDI, "a", "0"),
        (BIDI, "fail", "5"),
        ("/none", "a", "12"),
    ];
    for (stream, (path, message, code)) in (1..).step_by(2).zip(cases) {
        raw.request(stream, &head(path), &framed(message)).await;
        let answer = raw.answer(stream).await;
        assert_eq!(answer[0].field(":status"), Some("200"));
        // It counts them.
        assert_eq!(status(&answer), code, "{path} {message}");
        let all: Vec<_> = answer.iter().flat_map(|frame| frame.all(":status")).collect();
        assert_eq!(all.len(), 1);
        assert!(answer.last().unwrap().kind == HEADERS);
    }
}

#[tokio::test]
async fn the_message_is_percent_encoded_with_upper_case_hex() {
    let router = mirror(|_, text| Err(Status::aborted(text.to_owned())));
    let (_server, mut raw) = serve(router).await;
    let cases = [
        ("plain ~ text", "plain ~ text"),
        ("100%", "100%25"),
        ("a\r\nb\tc\u{7f}\0", "a%0D%0Ab%09c%7F%00"),
        ("é世🦀", "%C3%A9%E4%B8%96%F0%9F%A6%80"),
    ];
    for (stream, (text, encoded)) in (1..).step_by(2).zip(cases) {
        raw.request(stream, &head("/test.Own/Unary"), &framed(text)).await;
        let answer = raw.answer(stream).await;
        assert_trailers_only(&answer, "10");
        assert_eq!(answer[0].field("grpc-message"), Some(encoded));
    }
}

#[tokio::test]
async fn an_error_before_any_message_is_one_frame() {
    let (_server, _, mut raw) = echo().await;
    for (stream, path) in [(1, UNARY), (3, CLIENT), (5, BIDI), (7, "/none")] {
        raw.request(stream, &head(path), &framed("fail")).await;
        let code = if path == "/none" { "12" } else { "5" };
        assert_trailers_only(&raw.answer(stream).await, code);
    }
}

#[tokio::test]
async fn an_error_with_initial_metadata_is_headers_and_trailers() {
    let router = unary((), |_, mut request: Request<String>| async move {
        request.response_metadata().insert(&AsciiKey::from_static("x-initial"), 1);
        Err(Status::aborted("no"))
    });
    let (_server, mut raw) = serve(router).await;
    raw.request(1, &head("/test.Own/Unary"), &framed("")).await;
    let [headers, trailers] = &raw.answer(1).await[..] else { panic!() };
    assert_eq!((headers.ends(), headers.field("x-initial")), (false, Some("1")));
    assert_eq!(headers.field("grpc-status"), None);
    assert_eq!((trailers.ends(), trailers.field("grpc-status")), (true, Some("10")));
    assert_eq!(trailers.field("x-initial"), None);
}

#[tokio::test]
async fn headers_leave_when_the_handler_asks_and_else_with_the_first_message() {
    let go_on = Arc::new(Notify::new());
    let service = Service::builder("test.Own", &[], go_on.clone()).server_streaming(
        &OWN_SERVER,
        |go_on, request: Request<String>, mut out: Sink<String>| async move {
            if request.message == "flush" {
                out.flush_headers();
            }
            go_on.notified().await;
            out.send("first".to_string()).await?;
            go_on.notified().await;
            Ok(())
        },
    );
    let (_server, mut raw) = serve(Router::new().add(service.build())).await;
    for (stream, message) in [(1, "flush"), (3, "wait")] {
        raw.request(stream, &head("/test.Own/Server"), &framed(message)).await;
        let early = raw.settled().await;
        let early: Vec<_> = early.iter().filter(|frame| frame.stream == stream).collect();
        if message == "flush" {
            assert_eq!((early.len(), early[0].kind), (1, HEADERS));
        } else {
            assert!(early.is_empty(), "{early:?}");
        }
        go_on.notify_one();
        if message == "wait" {
            assert_eq!(raw.next_of(stream).await.kind, HEADERS);
        }
        assert_eq!(raw.next_of(stream).await.payload, framed("first"));
        go_on.notify_one();
        assert_eq!(status(&raw.answer(stream).await), "0");
    }
}

#[tokio::test]
async fn trailers_before_the_half_close_are_followed_by_no_error_reset() {
    let (_server, _, mut raw) = echo().await;
    // With nothing sent before, and after a message.
    raw.headers(1, &head(CLIENT), false).await;
    raw.data(1, &framed("fail"), false).await;
    assert_trailers_only(&raw.answer(1).await, "5");
    assert!(raw.next_of(1).await.is_reset(Reason::NO_ERROR));

    raw.headers(3, &head(BIDI), false).await;
    raw.data(3, &framed("a"), false).await;
    raw.data(3, &framed("fail"), false).await;
    let answer = raw.answer(3).await;
    assert_eq!((messages(&answer), status(&answer)), (vec!["a".to_string()], "5"));
    assert!(raw.next_of(3).await.is_reset(Reason::NO_ERROR));

    // And none after an answer to all of a request.
    raw.request(5, &head(UNARY), &framed("a")).await;
    raw.answer(5).await;
    assert!(raw.settled().await.iter().all(|frame| frame.kind != RST_STREAM));
}

#[tokio::test]
async fn a_client_with_little_room_for_headers_gets_the_status_all_the_same() {
    use balafon::rpc::ErrorInfo;

    let router = mirror(|_, _| {
        let detail = ErrorInfo::new("REASON", "domain");
        Err(Status::aborted("long ".repeat(1000)).with_detail(&detail))
    });
    let server = TestServer::start_with(server(), router).await;
    let room = 512;
    let mut raw = Raw::connect_with(server.addr, &[(MAX_HEADER_LIST_SIZE, room)]).await;
    raw.request(1, &head("/test.Own/Unary"), &framed("")).await;
    let answer = raw.answer(1).await;
    assert_trailers_only(&answer, "10");
    let size = answer[0].fields.iter().map(|(name, value)| name.len() + value.len() + 32);
    assert!(size.sum::<usize>() <= room as usize);
    assert!(answer[0].field("grpc-message").unwrap().starts_with("long long"));
    assert_eq!(answer[0].field("grpc-status-details-bin"), None);
}

#[tokio::test]
async fn a_retry_pushback_passes_as_a_trailer() {
    static PUSHBACK: AsciiKey = AsciiKey::from_static("grpc-retry-pushback-ms");
    let router = mirror(|_, _| {
        let mut metadata = balafon::Metadata::new();
        metadata.insert(&PUSHBACK, 1500);
        Err(Status::unavailable("later").with_metadata(metadata))
    });
    let (_server, mut raw) = serve(router).await;
    raw.request(1, &head("/test.Own/Unary"), &framed("")).await;
    let answer = raw.answer(1).await;
    assert_trailers_only(&answer, "14");
    assert_eq!(answer[0].field("grpc-retry-pushback-ms"), Some("1500"));
}

#[tokio::test]
async fn the_count_of_earlier_attempts_is_visible_to_a_handler() {
    static ATTEMPTS: AsciiKey = AsciiKey::from_static("grpc-previous-rpc-attempts");
    let router = mirror(|call, _| Ok(call.metadata().get(&ATTEMPTS).unwrap().to_owned()));
    let (_server, mut raw) = serve(router).await;
    let fields = head_with("/test.Own/Unary", &[("grpc-previous-rpc-attempts", "2")]);
    raw.request(1, &fields, &framed("")).await;
    assert_served(&raw.answer(1).await, &["2"]);
}

// Connection.

#[tokio::test]
async fn streams_over_the_advertised_limit_are_refused() {
    let (_server, echo, mut raw) = echo_with(server().max_concurrent_streams(2), &[]).await;
    assert!(raw.settings.contains(&(MAX_CONCURRENT_STREAMS, 2)));
    for stream in [1, 3] {
        raw.request(stream, &head(UNARY), &framed("until told")).await;
        echo.until_running(stream.div_ceil(2) as usize).await;
    }
    raw.headers(5, &head(UNARY), false).await;
    assert!(raw.next_of(5).await.is_reset(Reason::REFUSED_STREAM));
    echo.tell();
    let first = raw.until(|frame| frame.ends()).await.stream;
    assert!([1, 3].contains(&first));
    assert_alive(&mut raw, 7).await;
}

#[tokio::test]
async fn a_drain_says_goaway_twice_and_serves_what_was_opened_in_between() {
    let (mut server, echo, mut raw) = echo().await;
    raw.headers(1, &head(CLIENT), false).await;
    raw.data(1, &framed("before"), false).await;
    echo.until_running(1).await;
    server.shut_down();

    let first = raw.until(|frame| frame.kind == GOAWAY).await;
    assert_eq!((first.last_stream(), first.reason()), (0x7fff_ffff, Reason::NO_ERROR));
    let ping = raw.until(|frame| frame.kind == PING && frame.flags & ACK == 0).await;
    // The client has not heard of it yet.
    raw.request(3, &head(UNARY), &framed("in between")).await;
    assert_served(&raw.answer(3).await, &["in between"]);
    raw.headers(5, &head(CLIENT), false).await;

    raw.send(PING, ACK, 0, &ping.payload).await;
    let second = raw.until(|frame| frame.kind == GOAWAY).await;
    assert_eq!((second.last_stream(), second.reason()), (5, Reason::NO_ERROR));
    raw.data(1, &framed("after"), true).await;
    assert_served(&raw.answer(1).await, &["before after"]);
    raw.data(5, &framed("late"), true).await;
    assert_served(&raw.answer(5).await, &["late"]);
    // Nothing is left, so the connection closes.
    assert!(raw.goodbye().await.is_none_or(|frame| frame.reason() == Reason::NO_ERROR));
    server.served().await;
}

#[tokio::test]
async fn a_client_that_never_acknowledges_the_goaway_does_not_hold_up_a_drain() {
    let (mut server, _, mut raw) = echo().await;
    assert_alive(&mut raw, 1).await;
    server.shut_down();
    raw.until(|frame| frame.kind == PING && frame.flags & ACK == 0).await;
    server.served().await;
    raw.goodbye().await;
}

#[tokio::test]
async fn a_lame_duck_is_not_serving_and_serves_until_its_time_is_over() {
    use balafon::services::health::Health;

    let health = Health::new();
    let router = Router::new().add(Echo::default().service()).add(health.service());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (signal, time_is_over) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (signalled, over) = (signal.clone(), time_is_over.clone());
    // The shutdown that a program gives to the server is where the time is set.
    let serving = tokio::spawn(server().serve(listener, router, async move {
        signalled.notified().await;
        health.shutdown();
        over.notified().await;
    }));
    let mut raw = Raw::connect(addr).await;
    raw.request(1, &head("/grpc.health.v1.Health/Watch"), &[0; 5]).await;
    assert_eq!(raw.next_of(1).await.kind, HEADERS);
    assert_eq!(*raw.next_of(1).await.payload, [0, 0, 0, 0, 2, 8, 1]);
    signal.notify_one();
    assert_eq!(*raw.next_of(1).await.payload, [0, 0, 0, 0, 2, 8, 2]);
    assert_alive(&mut raw, 3).await;
    let mut newcomer = Raw::connect(addr).await;
    assert_alive(&mut newcomer, 1).await;
    assert!(raw.settled().await.iter().all(|frame| frame.kind != GOAWAY));
    time_is_over.notify_one();
    raw.until(|frame| frame.kind == GOAWAY).await;
    newcomer.until(|frame| frame.kind == GOAWAY).await;
    drop((raw, newcomer));
    patiently(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_without_a_message_in_hand_holds_no_window() {
    // The window of the connection is 65,535 bytes, that of a stream larger.
    let (_server, echo, mut raw) = echo_with(server(), &[(INITIAL_WINDOW_SIZE, 1 << 20)]).await;
    raw.headers(1, &head(BIDI), false).await;
    raw.data(1, &framed("a"), false).await;
    assert_eq!(raw.next_of(1).await.kind, HEADERS);
    assert_eq!(raw.next_of(1).await.payload, framed("a"));
    echo.until_running(1).await;
    // Nearly all that is left, in one answer, and nothing is given back.
    let large = "x".repeat(60_000);
    raw.headers(3, &head(UNARY), false).await;
    let request = framed(&large);
    for part in request.chunks(16 * 1024) {
        raw.data(3, part, false).await;
    }
    raw.data(3, &[], true).await;
    assert_served(&raw.answer(3).await, &[&large]);
}

#[tokio::test]
async fn a_reader_that_has_stopped_takes_no_more_than_its_own_window() {
    let (_server, echo, mut raw) = echo_with(server(), &[(INITIAL_WINDOW_SIZE, 10_000)]).await;
    raw.request(1, &head(SERVER), &framed("flood")).await;
    echo.until_running(1).await;
    raw.headers(3, &head(SERVER), false).await;
    raw.window(3, 1 << 20).await;
    raw.data(3, &framed("count 5000"), true).await;
    // 50 of the 55 KB that are left of the connection's window.
    assert_eq!(messages(&raw.answer(3).await).len(), 5000);
}

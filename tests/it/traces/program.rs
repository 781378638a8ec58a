//! Traces of the program `user-server`, and what its log says of calls.

use balafon::users::pb::user_service;

use super::{SPAN, TRACE, hex, traceparent};
use crate::support::collector::{Collector, attribute};
use crate::support::peer::{Peer, framed, request};
use crate::support::program::{Running, complaint};

/// The value of a field of a line of the log.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = line.split_once(&format!("\"{name}\":\""))?;
    Some(value.split_once('"')?.0)
}

/// Ends the program, and gives what is left of its log.
pub async fn end(mut running: Running) -> String {
    running.signal("TERM");
    let ended = tokio::task::spawn_blocking(move || {
        let rest = running.rest_of_log();
        (running.child.wait().unwrap(), rest)
    });
    let (code, rest) = ended.await.unwrap();
    assert!(code.success(), "{rest}");
    rest
}

#[tokio::test]
async fn the_line_of_a_call_has_its_trace_id_whether_or_not_it_is_exported() {
    let mut running = Running::start(&[], &[]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    let path = user_service::GET_USER.path;
    let head = request(path).header("traceparent", traceparent("00"));
    peer.call(head, framed("nobody")).await;
    let line = running.line_with("balafon::access");
    assert_eq!(field(&line, "trace_id"), Some(TRACE), "{line}");
    assert!(field(&line, "correlation_id").is_some(), "{line}");
    peer.call(request(path), framed("nobody")).await;
    let line = running.line_with("balafon::access");
    let id = field(&line, "trace_id").expect("every call has one");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
}

#[tokio::test]
async fn what_is_not_exported_at_the_end_of_the_drain_is_exported_then() {
    let mut collector = Collector::start().await;
    let url = collector.url();
    let arguments = ["--otlp-endpoint", &url, "--otlp-service-name", "users"];
    let running = Running::start(&arguments, &[("USER_SERVER_OTLP_SAMPLE_RATIO", "0")]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    let path = user_service::GET_USER.path;
    peer.call(request(path), framed("nobody")).await;
    peer.call(request(path).header("traceparent", traceparent("01")), framed("nobody")).await;
    let log = end(running).await;
    assert!(log.lines().last().unwrap().contains("drained"), "{log}");
    let exported = &collector.request().await.resource_spans[0];
    let resource = exported.resource.as_ref().unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name").unwrap(), "users");
    let version = attribute(&resource.attributes, "service.version");
    assert_eq!(version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    let [span] = &*exported.scope_spans[0].spans else { panic!("one was sampled: {exported:?}") };
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), SPAN.into()));
    assert_eq!(span.name, "ru.tinkoff.kora.example.UserService/GetUser");
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_a_line_of_the_log_and_no_more() {
    let collector = Collector::stopped().await;
    let url = collector.url();
    drop(collector);
    let running = Running::start(&["--otlp-endpoint", &url], &[]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    for _ in 0..3 {
        let reply = peer.call(request(user_service::GET_USER.path), framed("nobody")).await;
        // That it found nobody is an answer of the service.
        assert_eq!(reply.grpc_status(), "5");
    }
    let log = end(running).await;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("balafon::traces")).collect();
    // A first one at once, if it was tried before the end.
    assert!((1..=2).contains(&lines.len()), "{log}");
    assert!(lines.iter().all(|line| line.contains(&url)), "{log}");
    assert!(lines[lines.len() - 1].contains("\"failed\":3"), "{log}");
    assert!(!log.contains("could not be exported in time"), "{log}");
}

#[test]
fn a_collector_that_cannot_be_and_a_share_of_more_than_all_are_one_clear_line() {
    for (arguments, parts) in [
        (&["--otlp-endpoint", "localhost:4318"][..], ["--otlp-endpoint", "http://HOST:PORT"]),
        (&["--otlp-endpoint", "https://collector:4318"], ["--otlp-endpoint", "--otlp-ca"]),
        (&["--otlp-endpoint", "http://me:word@collector"], ["--otlp-endpoint", "(secret)"]),
        (&["--otlp-sample-ratio", "1.5"], ["--otlp-sample-ratio", "from 0 to 1"]),
        (&["--otlp-sample-ratio", "NaN"], ["--otlp-sample-ratio", "from 0 to 1"]),
        (&["--otlp-sample-ratio", "0.5"], ["--otlp-sample-ratio", "telemetry.otlp-endpoint"]),
        (&["--otlp-service-name", "users"], ["--otlp-service-name", "telemetry.otlp-endpoint"]),
    ] {
        let line = complaint(arguments);
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        assert!(!line.contains("word"), "{line}");
    }
}

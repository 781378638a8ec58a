//! Traces of the program `user-server`, and its log lines about calls.

use balafon::prost::Message;
use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use user_server::pb::user_service;

use super::{SPAN, TRACE, hex, traceparent};
use crate::support::collector::{Collector, attribute};
use crate::support::folder::Folder;
use crate::support::peer::{Peer, framed, request};
use crate::support::program::{Running, complaint, user_server};

/// The value of a field of a log line.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = line.split_once(&format!("\"{name}\":\""))?;
    Some(value.split_once('"')?.0)
}

/// Ends the program and returns the rest of its log.
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
async fn access_log_has_the_trace_id_without_export() {
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
async fn drain_ends_with_a_last_export() {
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
async fn missing_collector_is_only_one_log_line() {
    let collector = Collector::stopped().await;
    let url = collector.url();
    drop(collector);
    let running = Running::start(&["--otlp-endpoint", &url], &[]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    for _ in 0..3 {
        let reply = peer.call(request(user_service::GET_USER.path), framed("nobody")).await;
        // NOT_FOUND is an answer of the service.
        assert_eq!(reply.grpc_status(), "5");
    }
    let log = end(running).await;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("balafon::traces")).collect();
    // The first retry comes at once, if there was an attempt before the end.
    assert!((1..=2).contains(&lines.len()), "{log}");
    assert!(lines.iter().all(|line| line.contains(&url)), "{log}");
    assert!(lines[lines.len() - 1].contains("\"failed\":3"), "{log}");
    assert!(!log.contains("could not be exported in time"), "{log}");
}

#[test]
fn impossible_endpoint_or_ratio_is_one_clear_line() {
    for (arguments, parts) in [
        (&["--otlp-endpoint", "localhost:4318"][..], ["--otlp-endpoint", "http://HOST:PORT"]),
        (&["--otlp-endpoint", "http://c", "--otlp-ca", "x"], ["--otlp-ca", "https"]),
        (&["--otlp-header", "a=word"], ["--otlp-header", "telemetry.otlp-endpoint"]),
        (&["--otlp-header", "host=word"], ["--otlp-header", "host=(secret)"]),
        (&["--otlp-header", "word"], ["--otlp-header", "NAME=VALUE"]),
        (&["--otlp-resource-attribute", "a"], ["--otlp-resource-attribute", "NAME=VALUE"]),
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

/// The first request to the collector of a program that has served one call, and its log.
async fn exported(
    collector: &mut Collector,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (HeaderMap, Option<Resource>, String) {
    let running = Running::start(arguments, environment);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    peer.call(request(user_service::GET_USER.path), framed("nobody")).await;
    let log = [running.before.clone(), end(running).await].concat();
    let (headers, bytes) = collector.headers_and_bytes().await;
    let mut request = ExportTraceServiceRequest::decode(bytes).unwrap();
    (headers, request.resource_spans.remove(0).resource, log)
}

#[tokio::test]
async fn headers_from_flags_or_a_file_are_never_shown() {
    let (mut collector, folder) = (Collector::start().await, Folder::new());
    let lines = "# the key\n\nauthorization = Bearer hunter2=\n";
    let (url, file) = (collector.url(), folder.write("headers", lines));
    let arguments =
        ["--otlp-endpoint", &url, "--otlp-header", "x-team=hunter2", "--otlp-headers", &file];
    let (headers, _, log) = exported(&mut collector, &arguments, &[]).await;
    assert_eq!(headers["authorization"], "Bearer hunter2=");
    assert_eq!(headers["x-team"], "hunter2");
    assert!(!log.contains("hunter2"), "{log}");
    let output = user_server().arg("config").args(arguments).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("x-team=(secret)") && !out.contains("hunter2"), "{out}");
    let broken = folder.write("broken", "x-team=a\nhunter2\n");
    let line = complaint(&["--otlp-endpoint", &url, "--otlp-headers", &broken]);
    assert!(line.contains("broken: line 2: wanted NAME=VALUE"), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
}

#[tokio::test]
async fn standard_variables_apply_without_a_setting() {
    let mut collector = Collector::start().await;
    let url = collector.url();
    let standard = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2, x-team = a"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_SERVICE_NAME", "theirs"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=a%20b"),
    ];
    for (arguments, name) in [(&[][..], "theirs"), (&["--otlp-service-name", "ours"], "ours")] {
        let (headers, resource, log) = exported(&mut collector, arguments, &standard).await;
        assert_eq!(headers["authorization"], "Bearer hunter2");
        assert_eq!(headers["x-team"], "a");
        let attributes = resource.unwrap().attributes;
        let named = |name| attribute(&attributes, name);
        assert_eq!(named("service.name").unwrap(), name);
        assert_eq!(named("deployment.environment.name").unwrap(), "a b");
        assert!(!log.contains("hunter2"), "{log}");
    }
    // Variables for traces alone come first, unchanged; settings come before both.
    let away = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")];
    let traces = format!("{url}/v1/traces");
    let of_traces = [away[0], ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*traces)];
    exported(&mut collector, &[], &of_traces).await;
    exported(&mut collector, &["--otlp-endpoint", &url], &away).await;
    let output = user_server().arg("config").envs(standard).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("otlp-timeout = \"2000ms\"  # OTEL_EXPORTER_OTLP_TIMEOUT"), "{out}");
    assert!(!out.contains("hunter2"), "{out}");
}

#[test]
fn standard_variables_with_bad_values_are_warnings() {
    for (variables, warning) in [
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")][..], "wanted http://HOST:PORT"),
        (
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4317"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ],
            "OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\"",
        ),
        (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a/b")], "ends with /v1/traces"),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "hunter2")], "wanted a duration"),
        (&[("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")], "wanted NAME=VALUE"),
        (&[("OTEL_SERVICE_NAME", "users"), ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/none")], ""),
        (&[("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "nothing")], ""),
    ] {
        let output =
            user_server().args(["check", "--store=memory:"]).envs(variables.to_vec()).output();
        let output = output.unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{out}");
        let found = out.lines().find(|line| line.starts_with("warning: OTEL_"));
        assert_eq!(found.is_some(), !warning.is_empty(), "{out}");
        assert!(found.is_none_or(|line| line.contains(warning)), "{out}");
    }
}

//! Traces: the exported spans, the context that handlers and logs get, and the influence of a
//! collector on calls.

pub mod program;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use balafon::interceptors::traces::{Exporter, Traces};
use balafon::interceptors::{TraceContext, TrustProxies};
use balafon::testing::{call, intercept};
use balafon::{Call, Interceptor, Next, Outcome, Router, Status, UNKNOWN_METHOD};
use h2::Reason;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::support::collector::{Answer, Collector, attribute};
use crate::support::echo::Echo;
use crate::support::peer::{Peer, framed, request};
use crate::support::witness::{Seen, Witness};
use crate::support::{PATIENCE, TestServer};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// An interceptor with the view of a handler.
#[derive(Clone, Default)]
struct Contexts(Arc<Mutex<Vec<TraceContext>>>);

impl Interceptor for Contexts {
    async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
        let context = call.extensions().get::<TraceContext>().expect("every call has one");
        self.0.lock().unwrap().push(context.clone());
        if call.path() == "/test.Echo/Server" {
            return Status::internal("as asked").into();
        }
        next.run(call).await
    }
}

struct Traced {
    _server: TestServer,
    peer: Peer,
    contexts: Contexts,
    ended: Seen,
}

impl Traced {
    async fn start(traces: Traces) -> Self {
        Self::behind(Router::new(), traces).await
    }

    async fn behind(router: Router, traces: Traces) -> Self {
        let contexts = Contexts::default();
        let (witness, ended) = Witness::new();
        let router = router.intercept(witness).intercept(traces).intercept(contexts.clone());
        let server = TestServer::start(router.add(Echo::default().service())).await;
        let peer = Peer::connect(server.addr).await;
        Self { _server: server, peer, contexts, ended }
    }

    /// A call whose client sends these headers, and the context that its handler gets.
    async fn call(&mut self, headers: &[(&str, &str)]) -> TraceContext {
        let path = request("/test.Echo/Unary");
        let head = headers.iter().fold(path, |head, (name, value)| head.header(*name, *value));
        assert_eq!(self.peer.call(head, framed("hello")).await.grpc_status(), "0");
        self.ended.code().await;
        self.contexts.0.lock().unwrap().last().unwrap().clone()
    }

    async fn code_of(&mut self, path: &str, message: &str) {
        self.peer.unary(path, message).await;
        self.ended.code().await;
    }
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn code(span: &Span) -> (String, StatusCode, &str) {
    let status = span.status.as_ref().unwrap();
    let grpc = attribute(&span.attributes, "rpc.grpc.status_code").unwrap();
    (grpc, status.code(), &status.message)
}

/// Calls without a network. They end long before a batch has waited long enough, however busy the
/// machine is.
async fn calls_at_once(traces: &Traces, count: usize) {
    for _ in 0..count {
        intercept(traces, call(&UNKNOWN_METHOD), |_| async { Outcome::ok() }).await;
    }
}

/// All spans that the collector has once everything is exported.
async fn all_spans(exporter: Exporter, collector: &mut Collector) -> Vec<Span> {
    assert!(exporter.shut_down(PATIENCE).await);
    collector.spans_so_far()
}

#[tokio::test]
async fn span_follows_the_semantic_conventions() {
    let mut collector = Collector::start().await;
    let exporter = collector.exporter();
    let mut traced = Traced::start(Traces::new().export_to(&exporter)).await;
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let parent = traceparent("01");
    let headers = [("traceparent", &*parent), ("tracestate", "a=1"), ("tracestate", "b=2")];
    let context = traced.call(&headers).await;
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    assert!(exporter.shut_down(PATIENCE).await);

    let mut exported = collector.request().await;
    let resource = exported.resource_spans[0].resource.take().unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name").unwrap(), "test");
    assert_eq!(attribute(&resource.attributes, "telemetry.sdk.language").unwrap(), "rust");
    let scope = exported.resource_spans[0].scope_spans[0].scope.take().unwrap();
    assert_eq!(scope.name, "balafon");

    let span = &exported.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), SPAN.into()));
    assert_eq!(span.trace_state, "a=1,b=2");
    assert_eq!(span.name, "test.Echo/Unary");
    assert_eq!(span.kind(), SpanKind::Server);
    // Sampled, with a parent that is known to be in another process.
    assert_eq!(span.flags, 0x301);
    assert!(before <= span.start_time_unix_nano);
    assert!(span.start_time_unix_nano < span.end_time_unix_nano);
    assert!(span.end_time_unix_nano <= after);
    for (key, value) in [
        ("rpc.system", "grpc"),
        ("rpc.service", "test.Echo"),
        ("rpc.method", "Unary"),
        ("rpc.grpc.status_code", "0"),
        ("network.transport", "tcp"),
        ("network.peer.address", "127.0.0.1"),
    ] {
        assert_eq!(attribute(&span.attributes, key).as_deref(), Some(value), "{key}");
    }
    assert!(attribute(&span.attributes, "network.peer.port").is_some());
    assert_eq!(code(span), ("0".into(), StatusCode::Unset, ""));

    // The context that the handler sends makes this span the parent of the next.
    let onward = format!("00-{TRACE}-{}-01", hex(&span.span_id));
    assert_eq!(context.traceparent(), onward);
    assert_eq!(context.tracestate(), Some("a=1,b=2"));
    assert_ne!(hex(&span.span_id), SPAN);
}

#[tokio::test]
async fn span_has_the_client_named_by_a_trusted_proxy() {
    let mut collector = Collector::start().await;
    let exporter = collector.exporter();
    let traces = Traces::new().export_to(&exporter);
    let proxies = TrustProxies::new().trust("127.0.0.1".parse().unwrap());
    let mut traced = Traced::behind(Router::new().intercept(proxies), traces).await;
    traced.call(&[("x-forwarded-for", "192.0.2.1, 203.0.113.7")]).await;
    traced.call(&[]).await;
    let spans = all_spans(exporter, &mut collector).await;
    let of = |name| spans.iter().map(|span| attribute(&span.attributes, name)).collect::<Vec<_>>();
    assert_eq!(of("client.address"), [Some("203.0.113.7".to_owned()), None]);
    let peer = Some("127.0.0.1".to_owned());
    assert_eq!(of("network.peer.address"), [peer.clone(), peer]);
}

#[tokio::test]
async fn span_error_marks_server_faults_only() {
    let mut collector = Collector::start().await;
    let exporter = collector.exporter();
    let mut traced = Traced::start(Traces::new().export_to(&exporter)).await;
    traced.code_of("/test.Echo/Unary", "fail").await;
    traced.code_of("/test.Echo/Server", "").await;
    traced.code_of("/not/there", "").await;
    let mut cancelled = traced.peer.open("/test.Echo/Bidi").await;
    cancelled.message("hello", false);
    let (mut send, mut receive) = cancelled.split().await.unwrap();
    receive.data().await.unwrap().unwrap();
    send.send_reset(Reason::CANCEL);
    traced.ended.code().await;

    let spans = all_spans(exporter, &mut collector).await;
    let told: Vec<_> = spans.iter().map(|span| (span.name.as_str(), code(span))).collect();
    let what = |grpc: &str, status, message| (grpc.to_owned(), status, message);
    assert_eq!(
        told,
        [
            ("test.Echo/Unary", what("5", StatusCode::Unset, "")),
            ("test.Echo/Server", what("13", StatusCode::Error, "as asked")),
            ("unknown/unknown", what("12", StatusCode::Error, told[2].1.2)),
            ("test.Echo/Bidi", what("1", StatusCode::Unset, "")),
        ]
    );
}

#[tokio::test]
async fn sampling_follows_the_client_then_the_ratio() {
    let mut collector = Collector::start().await;
    let exporter = collector.exporter();
    let none = Traces::new().sample_ratio(0.0).export_to(&exporter);
    let mut traced = Traced::start(none).await;

    let begun_here = traced.call(&[]).await;
    assert!(!begun_here.is_sampled());
    let not_sampled = traced.call(&[("traceparent", &traceparent("00"))]).await;
    assert_eq!(not_sampled.trace_id().to_string(), TRACE);
    assert!(!not_sampled.is_sampled());
    let sampled = traced.call(&[("traceparent", &traceparent("01"))]).await;
    assert!(sampled.is_sampled());

    let spans = all_spans(exporter, &mut collector).await;
    let ids: Vec<_> = spans.iter().map(|span| hex(&span.span_id)).collect();
    assert_eq!(ids, [sampled.span_id().to_string()]);
}

#[tokio::test]
async fn sampling_exports_all_without_a_ratio() {
    let mut collector = Collector::start().await;
    let exporter = collector.exporter();
    let mut traced = Traced::start(Traces::new().export_to(&exporter)).await;
    let unset = traced.call(&[]).await;
    // A malformed header counts as none.
    let invalid = traced.call(&[("traceparent", &traceparent("0x")), ("tracestate", "a=1")]).await;
    let refused = traced.call(&[("traceparent", &traceparent("00"))]).await;
    let spans = all_spans(exporter, &mut collector).await;
    let ids: Vec<_> = spans.iter().map(|span| hex(&span.trace_id)).collect();
    assert_eq!(ids, [unset.trace_id().to_string(), invalid.trace_id().to_string()]);
    assert_ne!(ids[0], ids[1]);
    assert!(spans.iter().all(|span| span.parent_span_id.is_empty() && span.flags == 1));
    assert_eq!((invalid.tracestate(), refused.is_sampled()), (None, false));
}

#[tokio::test]
async fn context_is_propagated_without_an_exporter() {
    let mut traced = Traced::start(Traces::new()).await;
    let parent = traceparent("01");
    let context = traced.call(&[("traceparent", &parent), ("tracestate", "a=1")]).await;
    assert_eq!((context.traceparent(), context.tracestate()), (parent, Some("a=1")));
    // Without an exporter no server has spans of a new trace, so it is not sampled.
    assert!(!traced.call(&[]).await.is_sampled());
}

#[tokio::test]
async fn stopped_collector_delays_no_call_and_drops_spans() {
    // The spans that may wait, and those of the request in progress.
    const HELD: usize = 2048 + 512;
    let mut collector = Collector::stopped().await;
    let exporter = collector.exporter();
    calls_at_once(&Traces::new().export_to(&exporter), HELD + 500).await;
    assert!(!exporter.shut_down(Duration::ZERO).await);
    collector.go_on([]);
    let mut arrived = HashSet::new();
    while arrived.len() < 2048 {
        arrived.extend(collector.spans().await.into_iter().map(|span| span.span_id));
    }
    assert!(arrived.len() <= HELD, "{}", arrived.len());
}

#[tokio::test]
async fn full_batch_is_exported_at_once() {
    let mut collector = Collector::start().await;
    let exporter = collector.exporter();
    calls_at_once(&Traces::new().export_to(&exporter), 513).await;
    assert_eq!(collector.spans().await.len(), 512);
    assert_eq!(all_spans(exporter, &mut collector).await.len(), 1);
}

#[tokio::test]
async fn export_retries_temporary_failures_only() {
    let answers = [Answer::Status(503), Answer::Status(400), Answer::InPart];
    let mut collector = Collector::answering(answers).await;
    let exporter = collector.exporter();
    let traces = Traces::new().export_to(&exporter);
    let mut batches = Vec::new();
    for _ in 0..3 {
        calls_at_once(&traces, 512).await;
        batches.push(collector.spans().await);
        if batches.len() == 1 {
            // After the 503.
            assert_eq!(collector.spans().await, batches[0]);
        }
    }
    assert_eq!(all_spans(exporter, &mut collector).await, []);
    assert!(batches[0] != batches[1] && batches[1] != batches[2]);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let mut collector = Collector::answering([Answer::RetryAfter("2")]).await;
    let exporter = collector.exporter();
    let traces = Traces::new().export_to(&exporter);
    intercept(&traces, call(&UNKNOWN_METHOD), |_| async { Outcome::ok() }).await;
    collector.bytes().await;
    let told = std::time::Instant::now();
    // On its own schedule it would try again after 1.2 s at the latest.
    collector.bytes().await;
    assert!(told.elapsed() >= Duration::from_secs(2), "{:?}", told.elapsed());
    assert!(exporter.shut_down(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_retry_after() {
    let mut collector = Collector::answering([Answer::RetryAfter("3600")]).await;
    let exporter = collector.exporter();
    let traces = Traces::new().export_to(&exporter);
    intercept(&traces, call(&UNKNOWN_METHOD), |_| async { Outcome::ok() }).await;
    collector.bytes().await;
    assert!(exporter.shut_down(Duration::from_secs(5)).await);
    assert!(collector.spans_so_far().is_empty());
}

#[tokio::test]
async fn shutdown_tries_one_more_export_at_once() {
    let mut collector = Collector::answering([Answer::Status(503)]).await;
    let exporter = collector.exporter();
    calls_at_once(&Traces::new().export_to(&exporter), 512).await;
    let refused = collector.spans().await;
    assert_eq!(all_spans(exporter, &mut collector).await, refused);
}

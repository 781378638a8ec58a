//! Encodes spans for OTLP, with attributes of the semantic conventions for gRPC.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use prost::Message;

use super::otlp::{
    self, ExportTraceServiceRequest, InstrumentationScope, KeyValue, ResourceSpans, ScopeSpans,
    SpanKind, StatusCode,
};
use super::span::Span;
use crate::{Code, Peer, PeerAddr};

/// The parent is known to be in another process (`SpanFlags` of OTLP).
const PARENT_IS_REMOTE: u32 = 0x300;

/// The flag of `traceparent`, which all exported spans have.
const SAMPLED: u32 = 1;

/// The server, as its spans describe it.
#[derive(Clone)]
pub struct Resource {
    attributes: Vec<KeyValue>,
}

impl Resource {
    /// A service of this name.
    pub fn new(service_name: &str) -> Self {
        let sdk = [
            ("service.name", service_name),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.name", env!("CARGO_PKG_NAME")),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        Self { attributes: sdk.map(|(key, value)| KeyValue::new(key, value)).into() }
    }

    /// Adds an attribute such as `service.version` or `deployment.environment.name`. It replaces one of
    /// the same name.
    #[must_use]
    pub fn attribute(mut self, key: &str, value: &str) -> Self {
        self.attributes.retain(|attribute| attribute.key != key);
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// The body of the request that exports these spans.
    pub(super) fn encode(&self, spans: &[Span]) -> Vec<u8> {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let spans = spans.iter().map(span).collect();
        let resource = otlp::Resource { attributes: self.attributes.clone() };
        let resource_spans = ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
        };
        ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource").finish_non_exhaustive()
    }
}

fn span(span: &Span) -> otlp::Span {
    let Span { context, parent, method, peer, client, start, duration, status } = span;
    let start = start.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut attributes = vec![
        KeyValue::new("rpc.system", "grpc"),
        KeyValue::new("rpc.service", method.service),
        KeyValue::new("rpc.method", method.name),
        KeyValue::new("rpc.grpc.status_code", status.code() as i64),
    ];
    attributes.extend(network(peer));
    attributes.extend(client.map(|client| KeyValue::new("client.address", &*client.to_string())));
    let status = if is_error(status.code()) {
        let message = status.log_message().to_owned();
        otlp::Status { code: StatusCode::Error.into(), message }
    } else {
        otlp::Status::default()
    };
    otlp::Span {
        trace_id: context.trace_id().0.get().to_be_bytes().into(),
        span_id: context.span_id().0.get().to_be_bytes().into(),
        trace_state: context.tracestate().unwrap_or_default().to_owned(),
        parent_span_id: parent.map(|id| id.0.get().to_be_bytes().into()).unwrap_or_default(),
        name: method.path.trim_start_matches('/').to_owned(),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanoseconds(start),
        end_time_unix_nano: nanoseconds(start + *duration),
        attributes,
        status: Some(status),
        flags: SAMPLED | if parent.is_some() { PARENT_IS_REMOTE } else { 0 },
    }
}

/// Whether the code is an error of the server. Other codes report a problem of the client's call
/// ("Semantic conventions for gRPC", server spans).
fn is_error(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

fn network(peer: &Peer) -> Vec<KeyValue> {
    match peer.addr {
        PeerAddr::Tcp(addr) => vec![
            KeyValue::new("network.transport", "tcp"),
            KeyValue::new("network.peer.address", &*addr.ip().to_string()),
            KeyValue::new("network.peer.port", i64::from(addr.port())),
        ],
        PeerAddr::Unix => vec![KeyValue::new("network.transport", "unix")],
        PeerAddr::Memory => vec![KeyValue::new("network.transport", "pipe")],
    }
}

/// Enough until the year 2554.
fn nanoseconds(since_epoch: Duration) -> u64 {
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

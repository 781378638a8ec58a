use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::interceptors::{ClientAddr, SpanId, TraceContext, TraceId};
use crate::{Method, Peer, Status};

/// A finished call in the queue. The exporter's thread encodes it, not the worker that served it.
pub(super) struct Span {
    pub(super) context: TraceContext,
    /// The client's span, if it sent one.
    pub(super) parent: Option<SpanId>,
    pub(super) method: &'static Method,
    pub(super) peer: Arc<Peer>,
    /// The client address that a trusted proxy forwarded.
    pub(super) client: Option<ClientAddr>,
    pub(super) start: SystemTime,
    pub(super) duration: Duration,
    pub(super) status: Status,
}

pub(super) fn random_trace_id() -> TraceId {
    TraceId(NonZeroU128::new(rand::random()).unwrap_or(NonZeroU128::MIN))
}

pub(super) fn random_span_id() -> SpanId {
    SpanId(NonZeroU64::new(rand::random()).unwrap_or(NonZeroU64::MIN))
}

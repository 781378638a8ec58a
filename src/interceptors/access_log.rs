use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::timestamp::context::{ContextV7, ThreadLocalContext};
use uuid::{Timestamp, Uuid};

use super::{ClientAddr, TraceContext};
use crate::cut::for_log;
use crate::{AsciiKey, AsciiValue, Call, Interceptor, Metadata, Next, Outcome};

/// Carries the correlation id, from the client and back to it.
pub static X_REQUEST_ID: AsciiKey = AsciiKey::from_static("x-request-id");

/// A client's id longer than this is replaced: it goes into every log line of the call.
const MAX_ID_LEN: usize = 128;

/// Writes one structured line for each call, whatever its shape and however it ended: an event of
/// level INFO and target `balafon::access` with the fields `method`, `peer`, `status`, `error`
/// (its [`log_message`](crate::Status::log_message)), `duration_us`, `messages_in`, `messages_out` and `correlation_id`; and `trace_id` and
/// `client`, if there is a [`TraceContext`] or a [`ClientAddr`] in the call's extensions, and
/// `principal`, if an interceptor [says](Call::attribute_to) who calls.
///
/// The correlation id is the client's `x-request-id`, or a new UUID where there is none. The client
/// gets it back in the response metadata, handlers find it as [`CorrelationId`] in the extensions.
///
/// Register it first, so that it is the outermost and sees what the other interceptors answer: only
/// what makes the trace context comes before it.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccessLog;

/// The id that ties a call's log lines together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrelationId(pub Arc<str>);

impl Interceptor for AccessLog {
    async fn intercept(&self, mut call: Call, next: Next<'_>) -> Outcome {
        let id = correlation_id(call.metadata());
        if let Ok(value) = AsciiValue::try_from(&*id) {
            call.response_metadata().insert(&X_REQUEST_ID, value.unindexed());
        }
        call.extensions_mut().insert(CorrelationId(id.clone()));
        let trace_id = call.extensions().get().map(TraceContext::trace_id);
        let client = ClientAddr::of(&call);
        let (start, peer, handle) = (call.started(), call.peer().clone(), call.handle());
        let method = call.method();
        // A known path is static; an unknown one is the client's text, and goes with the call.
        let unknown: Option<Box<str>> =
            (call.path() != method.path).then(|| for_log(call.path()).into());

        let outcome = next.run(call).await;

        tracing::info!(
            target: "balafon::access",
            method = unknown.as_deref().unwrap_or(method.path),
            peer = peer.as_str(),
            client = client.map(tracing::field::display),
            principal = handle.principal(),
            status = outcome.status.code().name(),
            error = (!outcome.status.is_ok()).then(|| outcome.status.log_message()),
            duration_us = start.elapsed().as_micros() as u64,
            messages_in = handle.received(),
            messages_out = handle.sent(),
            correlation_id = &*id,
            trace_id = trace_id.map(tracing::field::display),
            "call"
        );
        outcome
    }
}

fn correlation_id(metadata: &Metadata) -> Arc<str> {
    match metadata.get(&X_REQUEST_ID) {
        Some(id) if !id.is_empty() && id.len() <= MAX_ID_LEN => id.into(),
        _ => (&*new_id().hyphenated().encode_lower(&mut Uuid::encode_buffer())).into(),
    }
}

/// A UUIDv7; each thread has its own order of them. `Uuid::now_v7` keeps one for the process, under a
/// lock that every call of every worker would take. A clock before 1970, which no UUIDv7 can carry, counts
/// as 1970: `Timestamp::now` would panic.
fn new_id() -> Uuid {
    thread_local! {
        static ORDER: ContextV7 = const { ContextV7::new() };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let order = ThreadLocalContext::new(&ORDER);
    Uuid::new_v7(Timestamp::from_unix(order, now.as_secs(), now.subsec_nanos()))
}

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::timestamp::context::{ContextV7, ThreadLocalContext};
use uuid::{Timestamp, Uuid};

use super::{ClientAddr, TraceContext};
use crate::cut::for_log;
use crate::{AsciiKey, AsciiValue, Call, Interceptor, Metadata, Next, Outcome};

/// The correlation id: the client may send it, and gets it back.
pub static X_REQUEST_ID: AsciiKey = AsciiKey::from_static("x-request-id");

/// A longer id of a client is replaced, since every log line of the call contains it.
const MAX_ID_LEN: usize = 128;

/// Logs one structured line for each call, of any shape and with any end. It is an event of level INFO
/// and target `balafon::access`, with these fields:
///
/// - `method`, `peer`, `status`, `duration_us`, `messages_in`, `messages_out`, `correlation_id`;
/// - `error`: the [`log_message`](crate::Status::log_message) of a status that is not OK;
/// - `trace_id`, if there is a [`TraceContext`] in the extensions of the call;
/// - `client`, if there is a [`ClientAddr`] in the extensions of the call;
/// - `principal`, if an interceptor has [attributed](Call::attribute_to) the call to one.
///
/// The correlation id is the client's `x-request-id`, or a new UUID. The client gets it back in the
/// response metadata. Handlers find it as [`CorrelationId`] in the extensions.
///
/// Register it outermost, so that it logs calls that other interceptors refuse. Only `Traces` and
/// `TrustProxies` come before it.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccessLog;

/// The id that all log lines of a call share.
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
        // The path of a known method is static. An unknown path is dropped with the call, so it is copied.
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

/// A UUIDv7. Each thread orders its own: `Uuid::now_v7` has one order for the process, behind a lock
/// that every call would take. A clock before 1970 counts as 1970, since a UUIDv7 cannot hold earlier
/// times and `Timestamp::now` would panic.
fn new_id() -> Uuid {
    thread_local! {
        static ORDER: ContextV7 = const { ContextV7::new() };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let order = ThreadLocalContext::new(&ORDER);
    Uuid::new_v7(Timestamp::from_unix(order, now.as_secs(), now.subsec_nanos()))
}

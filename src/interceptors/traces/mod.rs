//! Distributed tracing: the trace context of every call, and spans of sampled calls. Spans are exported
//! to a collector by OTLP over HTTP.
//!
//! ```text
//! traceparent -> sampler -> TraceContext     in the call's extensions: for handlers, for logs
//!                              |
//! the call's outcome -------> span -> a bounded queue -> exporter -> encode -> collector
//!                                                        `---- a thread of its own ----'
//! ```

mod collector;
mod encode;
mod exporter;
mod losses;
mod otlp;
mod sampler;
mod span;

use std::fmt;
use std::time::{Instant, SystemTime};

pub use self::collector::{Endpoint, Header, InvalidEndpoint, InvalidHeader};
use self::exporter::Spans;
pub use self::exporter::{Exporter, Resource};
use self::sampler::Ratio;
use self::span::{Span, random_span_id, random_trace_id};
use super::{ClientAddr, TraceContext};
use crate::{Call, Interceptor, Next, Outcome};

/// Gives each call a [`TraceContext`], and exports a span for each sampled call by an [`Exporter`].
///
/// A valid `traceparent` and `tracestate` of the client continue its trace (W3C Trace Context). Other
/// calls begin a new trace. The client decides whether its trace is sampled. New traces are sampled by
/// a ratio, and chosen by their id: servers with the same ratio choose the same traces.
///
/// Register it first, before the access log, which logs the trace id.
///
/// ```no_run
/// use std::time::Duration;
///
/// use balafon::interceptors::AccessLog;
/// use balafon::interceptors::traces::{Exporter, Resource, Traces};
/// use balafon::{Router, Server, shutdown_signal};
/// # async fn serve(router: Router, listener: tokio::net::TcpListener)
/// #     -> Result<(), Box<dyn std::error::Error>> {
///
/// let resource = Resource::new("greeter");
/// let exporter = Exporter::start("http://localhost:4318".parse()?, resource)?;
/// let traces = Traces::new().sample_ratio(0.1).export_to(&exporter);
/// let router = router.intercept(traces).intercept(AccessLog);
/// Server::new().serve(listener, router, shutdown_signal()).await?;
/// exporter.shut_down(Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Traces {
    ratio: Ratio,
    spans: Option<Spans>,
}

impl Traces {
    /// Propagates the context of clients unchanged, and exports nothing.
    pub fn new() -> Self {
        Self { ratio: Ratio::ALL, spans: None }
    }

    /// The ratio of new traces that is sampled, all (1.0) by default.
    ///
    /// # Panics
    /// If the ratio is not from 0 to 1.
    #[must_use]
    pub fn sample_ratio(self, ratio: f64) -> Self {
        let ratio = Ratio::new(ratio).expect("a share is a number from 0 to 1");
        Self { ratio, ..self }
    }

    /// Exports a span for each sampled call.
    #[must_use]
    pub fn export_to(self, exporter: &Exporter) -> Self {
        Self { spans: Some(exporter.spans()), ..self }
    }

    /// The context of a call whose client has sent `parent`.
    fn context(&self, parent: Option<&TraceContext>) -> TraceContext {
        match parent {
            // Without a span of this server, the client's span is the parent of the next one.
            Some(parent) if self.spans.is_none() => parent.clone(),
            Some(parent) => parent.child(random_span_id()),
            None => {
                let trace_id = random_trace_id();
                let sampled = self.spans.is_some() && self.ratio.contains(trace_id);
                TraceContext::new(trace_id, random_span_id(), sampled)
            }
        }
    }
}

impl Interceptor for Traces {
    async fn intercept(&self, mut call: Call, next: Next<'_>) -> Outcome {
        let parent = TraceContext::read_from(call.metadata());
        let context = self.context(parent.as_ref());
        call.extensions_mut().insert(context.clone());
        let Some(spans) = self.spans.as_ref().filter(|_| context.is_sampled()) else {
            return next.run(call).await;
        };
        let (method, peer, client) = (call.method(), call.peer().clone(), ClientAddr::of(&call));
        let (start_time, start) = (SystemTime::now(), Instant::now());

        let outcome = next.run(call).await;

        spans.push(Span {
            context,
            parent: parent.map(|parent| parent.span_id()),
            method,
            peer,
            client,
            start: start_time,
            duration: start.elapsed(),
            status: outcome.status.clone(),
        });
        outcome
    }
}

impl Default for Traces {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exports = self.spans.is_some();
        f.debug_struct("Traces").field("ratio", &self.ratio).field("exports", &exports).finish()
    }
}

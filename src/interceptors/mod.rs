//! Ready-made interceptors, for any service.

#[cfg(feature = "access-log")]
mod access_log;
#[cfg(feature = "auth")]
pub mod auth;
mod concurrency;
#[cfg(feature = "metrics")]
mod metrics;
mod pattern;
mod proxies;
#[cfg(feature = "rate-limit")]
pub mod rate_limit;
mod trace_context;
#[cfg(feature = "otlp")]
pub mod traces;

#[cfg(feature = "access-log")]
pub use self::access_log::{AccessLog, CorrelationId, X_REQUEST_ID};
pub use self::concurrency::ConcurrencyLimit;
#[cfg(feature = "metrics")]
pub use self::metrics::{Metrics, ServerMetrics};
pub use self::pattern::{InvalidPattern, MethodPattern};
pub use self::proxies::{ClientAddr, InvalidProxy, TrustProxies, TrustedProxy};
pub use self::trace_context::{SpanId, TRACEPARENT, TRACESTATE, TraceContext, TraceId};

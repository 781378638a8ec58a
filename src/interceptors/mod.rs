//! Ready-made interceptors, for any service.

#[cfg(feature = "access-log")]
mod access_log;
#[cfg(feature = "auth")]
pub mod auth;
#[cfg(any(feature = "auth", feature = "rate-limit"))]
mod client;
mod concurrency;
#[cfg(feature = "metrics")]
mod metrics;
mod pattern;
#[cfg(any(feature = "auth", feature = "rate-limit"))]
mod principal;
mod proxies;
#[cfg(feature = "rate-limit")]
pub mod rate_limit;
#[cfg(any(feature = "auth", feature = "rate-limit"))]
mod too_many;
mod trace_context;
#[cfg(feature = "otlp")]
pub mod traces;

#[cfg(feature = "access-log")]
pub use self::access_log::{AccessLog, CorrelationId, X_REQUEST_ID};
pub use self::concurrency::ConcurrencyLimit;
#[cfg(feature = "metrics")]
pub use self::metrics::{Metrics, ServerMetrics};
pub use self::pattern::{InvalidPattern, MethodPattern};
#[cfg(any(feature = "auth", feature = "rate-limit"))]
pub use self::principal::{Principal, PrincipalKind};
pub use self::proxies::{ClientAddr, InvalidProxy, TrustProxies, TrustedProxy};
pub use self::trace_context::{SpanId, TRACEPARENT, TRACESTATE, TraceContext, TraceId};

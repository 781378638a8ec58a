use std::future::Future;
use std::sync::Arc;

use super::call::{Call, Outcome};
use super::call_boundary::CallBoundary;
use super::exchange::Exchange;
use super::handler::{BoxFuture, Handler};

/// Code around whole calls of any kind. It can inspect, change or refuse a call, and it gets the
/// call's outcome.
///
/// ```
/// use balafon::{Call, Interceptor, Next, Outcome, Status};
///
/// struct OnlyKnownMethods;
///
/// impl Interceptor for OnlyKnownMethods {
///     async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
///         if call.method() == &balafon::UNKNOWN_METHOD {
///             return Status::permission_denied("not here").into();
///         }
///         next.run(call).await
///     }
/// }
/// ```
///
/// # How a call ends
/// The deadline, a cancellation by the client, or the end of the server's drain can end a call.
/// Then the inner future (`next.run`) is dropped and yields the matching outcome. So the code after
/// `next.run` runs once for every call. In this case it must not wait: the interceptor is dropped
/// too if it does not complete in the same poll. Work that has to outlive the call belongs in a
/// spawned task.
///
/// The outcome is available when all but the last 16 KiB of the response have been sent. If the
/// client stops reading then, its deadline may still pass after the outcome was OK.
///
/// If the metadata of an OK call exceeds the client's header limit, the call fails after the
/// interceptors have returned. The client gets RESOURCE_EXHAUSTED, and the server logs a warning.
pub trait Interceptor: Send + Sync + 'static {
    /// Handles a call. Most implementations await `next.run(call)` and do something before or
    /// after.
    fn intercept(&self, call: Call, next: Next<'_>) -> impl Future<Output = Outcome> + Send;
}

impl<I: Interceptor> Interceptor for Arc<I> {
    fn intercept(&self, call: Call, next: Next<'_>) -> impl Future<Output = Outcome> + Send {
        I::intercept(self, call, next)
    }
}

/// The object-safe form of [`Interceptor`], for lists.
pub(crate) trait DynInterceptor: Send + Sync + 'static {
    fn intercept<'a>(&'a self, call: Call, next: Next<'a>) -> BoxFuture<'a, Outcome>;
}

impl<I: Interceptor> DynInterceptor for I {
    fn intercept<'a>(&'a self, call: Call, next: Next<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(CallBoundary::new(next.exchange, || Interceptor::intercept(self, call, next)))
    }
}

/// A handler wrapped in the interceptors of its service.
pub(crate) struct Intercepted {
    pub(crate) interceptors: Arc<[Arc<dyn DynInterceptor>]>,
    pub(crate) handler: Arc<dyn Handler>,
}

impl Handler for Intercepted {
    fn handle(&self, call: Call) -> BoxFuture<'static, Outcome> {
        let (interceptors, handler) = (self.interceptors.clone(), self.handler.clone());
        let exchange = call.exchange().clone();
        Box::pin(async move {
            Next { interceptors: &interceptors, handler: &*handler, exchange: &exchange }
                .run(call)
                .await
        })
    }
}

/// The rest of the chain: the inner interceptors, then the handler.
pub struct Next<'a> {
    pub(crate) interceptors: &'a [Arc<dyn DynInterceptor>],
    pub(crate) handler: &'a dyn Handler,
    /// The exchange of the call.
    pub(crate) exchange: &'a Exchange,
}

impl<'a> Next<'a> {
    /// Runs the call and returns its outcome, also after a panic, a passed deadline or a
    /// cancellation.
    pub fn run(self, call: Call) -> impl Future<Output = Outcome> + Send + 'a {
        match self.interceptors {
            [first, rest @ ..] => first.intercept(call, Next { interceptors: rest, ..self }),
            [] => self.handler.handle(call),
        }
    }
}

impl std::fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Next").field("interceptors", &self.interceptors.len()).finish()
    }
}

use std::future::Future;
use std::sync::Arc;

use super::call::{Call, Outcome};
use super::call_boundary::CallBoundary;
use super::exchange::Exchange;
use super::handler::{BoxFuture, Handler};

/// Code around whole calls, of any shape: it may look at a call, change or refuse it, and it sees
/// how the call ended.
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
/// # How it ends
/// When the deadline passes, the client cancels or the server's drain is over, what is inside
/// (`next.run`) is dropped and gives the matching outcome, so the code behind it runs for every
/// call, once. In that case it must not wait for anything more: what is not complete in the same
/// poll is dropped in its turn. Work that has to outlive the call belongs in a spawned task.
///
/// The outcome comes when all but the last 16 KiB of the response have left. A client that stops
/// reading just then may still see its deadline pass where the outcome was OK. Nor does an
/// interceptor see that the metadata of an OK call is over what the client accepts as headers, of
/// which it learns by RESOURCE_EXHAUSTED and the operator by a warning in the log.
pub trait Interceptor: Send + Sync + 'static {
    /// Handles a call, most often by `next.run(call).await` and something before or after.
    fn intercept(&self, call: Call, next: Next<'_>) -> impl Future<Output = Outcome> + Send;
}

impl<I: Interceptor> Interceptor for Arc<I> {
    fn intercept(&self, call: Call, next: Next<'_>) -> impl Future<Output = Outcome> + Send {
        I::intercept(self, call, next)
    }
}

/// [`Interceptor`] in a form that a list can hold.
pub(crate) trait DynInterceptor: Send + Sync + 'static {
    fn intercept<'a>(&'a self, call: Call, next: Next<'a>) -> BoxFuture<'a, Outcome>;
}

impl<I: Interceptor> DynInterceptor for I {
    fn intercept<'a>(&'a self, call: Call, next: Next<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(CallBoundary::new(next.exchange, || Interceptor::intercept(self, call, next)))
    }
}

/// A handler with interceptors of its service around it.
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

/// The rest of the chain: the interceptors further in, then the handler.
pub struct Next<'a> {
    pub(crate) interceptors: &'a [Arc<dyn DynInterceptor>],
    pub(crate) handler: &'a dyn Handler,
    /// That of the call.
    pub(crate) exchange: &'a Exchange,
}

impl<'a> Next<'a> {
    /// Runs the call and gives its outcome, whatever becomes of it: also after a panic, the
    /// deadline or a cancellation further in.
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

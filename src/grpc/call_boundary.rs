use std::any::Any;
use std::future::Future;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;

use super::call::Outcome;
use super::exchange::Exchange;
use super::status::Status;

/// Where a handler or an interceptor meets what is outside of it. Whatever becomes of the future
/// inside, the one outside gets exactly one outcome:
///
/// - it completes: its own outcome;
/// - it panics: UNKNOWN, the code that gRPC has for errors thrown by applications;
/// - the call is ended from outside (deadline, cancellation, drain) and the future does not
///   complete in that very poll: it is dropped, and the outcome is the reason;
/// - the transport is dropped: the same, but for a handler that last poll is left out. When a
///   runtime goes down there is no cooperative budget, and a handler that relies on being told to
///   yield would never return.
#[pin_project]
pub(crate) struct CallBoundary<E, F> {
    #[pin]
    future: Option<F>,
    /// Of a panic before there was a future.
    failed: Option<Outcome>,
    exchange: E,
    of_handler: bool,
}

impl<E, F> CallBoundary<E, F> {
    /// Guards a future, and the code that makes it.
    pub(crate) fn new(exchange: E, make: impl FnOnce() -> F) -> Self {
        match catch_unwind(AssertUnwindSafe(make)) {
            Ok(future) => Self { future: Some(future), failed: None, exchange, of_handler: false },
            Err(panic) => {
                let failed = Some(panicked(&*panic));
                Self { future: None, failed, exchange, of_handler: false }
            }
        }
    }

    /// Guards a handler: there is nothing further in.
    pub(crate) fn of_handler(exchange: E, make: impl FnOnce() -> F) -> Self {
        Self { of_handler: true, ..Self::new(exchange, make) }
    }
}

impl<E, F> Future for CallBoundary<E, F>
where
    E: Deref<Target = Exchange>,
    F: Future<Output = Outcome>,
{
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut this = self.project();
        if let Some(outcome) = this.failed.take() {
            return Poll::Ready(outcome);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let future = this.future.as_mut().as_pin_mut()?;
            let polled = !(*this.of_handler && this.exchange.is_abandoned());
            match polled.then(|| future.poll(cx)) {
                Some(Poll::Ready(outcome)) => Some(outcome),
                _ => this.exchange.ended().map(Outcome::from),
            }
        }));
        let outcome = match polled {
            Ok(None) => return Poll::Pending,
            Ok(Some(outcome)) => outcome,
            Err(panic) => panicked(&*panic),
        };
        // Dropped here, so that a panic in a destructor is caught as well.
        match catch_unwind(AssertUnwindSafe(|| this.future.set(None))) {
            Ok(()) => Poll::Ready(outcome),
            Err(panic) => Poll::Ready(panicked(&*panic)),
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    // Not even a log that panics itself keeps the client from its status.
    let _ = catch_unwind(|| {
        tracing::error!(
            panic = text.unwrap_or("not a text"),
            "a handler or an interceptor panicked"
        );
    });
    // The client learns nothing of it: the text may hold what is not for its eyes.
    Status::unknown("the call failed by an internal fault").into()
}

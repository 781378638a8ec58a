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

/// The boundary around a handler's or an interceptor's future. The caller gets exactly one outcome:
///
/// - the future completes: its own outcome;
/// - the future panics: UNKNOWN, the code that gRPC has for errors that applications throw;
/// - the call is ended from outside (deadline, cancellation, drain): the future is polled once
///   more. If it does not complete in that poll, it is dropped, and the outcome is the reason;
/// - the transport is dropped: the same, but a handler gets no last poll. A runtime that shuts down
///   has no cooperative budget. A handler that relies on the budget to yield would never return.
#[pin_project]
pub(crate) struct CallBoundary<E, F> {
    #[pin]
    future: Option<F>,
    /// The outcome of a panic in the code that makes the future.
    failed: Option<Outcome>,
    exchange: E,
    of_handler: bool,
}

impl<E, F> CallBoundary<E, F> {
    /// Wraps a future, and the code that makes it.
    pub(crate) fn new(exchange: E, make: impl FnOnce() -> F) -> Self {
        match catch_unwind(AssertUnwindSafe(make)) {
            Ok(future) => Self { future: Some(future), failed: None, exchange, of_handler: false },
            Err(panic) => {
                let failed = Some(panicked(&*panic));
                Self { future: None, failed, exchange, of_handler: false }
            }
        }
    }

    /// Wraps a handler, the innermost future. It gets no last poll once the transport is dropped.
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
        // The future is dropped here, so that a panic in a destructor is caught as well.
        match catch_unwind(AssertUnwindSafe(|| this.future.set(None))) {
            Ok(()) => Poll::Ready(outcome),
            Err(panic) => Poll::Ready(panicked(&*panic)),
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    // The client gets its status even if the log panics.
    let _ = catch_unwind(|| {
        tracing::error!(
            panic = text.unwrap_or("the panic has no text"),
            "a handler or an interceptor panicked"
        );
    });
    // The panic's text is not sent to the client, because it may hold secrets.
    Status::unknown("the call failed by an internal fault").into()
}

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{InvalidPattern, MethodPattern};
use crate::{Call, Interceptor, Next, Outcome, Status};

/// Load shedding: limits how many calls are open at a time, and ends others with UNAVAILABLE at once.
/// Clients can then try another server without delay, and no call waits until its client has given
/// up.
///
/// Register it before expensive interceptors, such as authentication.
///
/// ```
/// use balafon::Router;
/// use balafon::interceptors::ConcurrencyLimit;
///
/// // A busy server is still healthy.
/// let limit = ConcurrencyLimit::new(1000).exempt("grpc.health.v1.Health/*")?;
/// let router = Router::new().intercept(limit);
/// # Ok::<(), balafon::interceptors::InvalidPattern>(())
/// ```
#[derive(Debug)]
pub struct ConcurrencyLimit {
    max: usize,
    open: AtomicUsize,
    exempt: Vec<MethodPattern>,
}

impl ConcurrencyLimit {
    /// Allows so many calls at a time, of any shape.
    pub fn new(calls: usize) -> Self {
        Self { max: calls, open: AtomicUsize::new(0), exempt: Vec::new() }
    }

    /// Neither counts nor refuses calls to these methods.
    ///
    /// # Errors
    /// If `methods` is not a [`MethodPattern`].
    pub fn exempt(mut self, methods: &str) -> Result<Self, InvalidPattern> {
        self.exempt.push(methods.parse()?);
        Ok(self)
    }
}

impl Interceptor for ConcurrencyLimit {
    async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
        if self.exempt.iter().any(|methods| methods.matches(call.method())) {
            return next.run(call).await;
        }
        let permit = OpenCall::new(&self.open);
        if permit.before >= self.max {
            return Status::unavailable("the server has too many calls at the moment").into();
        }
        next.run(call).await
    }
}

/// Counts a call until it is dropped, however the call ends.
struct OpenCall<'a> {
    open: &'a AtomicUsize,
    before: usize,
}

impl<'a> OpenCall<'a> {
    fn new(open: &'a AtomicUsize) -> Self {
        // Relaxed: no other memory is read depending on this number.
        Self { open, before: open.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{InvalidPattern, MethodPattern};
use crate::{Call, Interceptor, Next, Outcome, Status};

/// Lets only so many calls be open at a time, and ends others with UNAVAILABLE at once: who has
/// another server to ask is told so while that still helps, and nothing waits here that its client
/// has given up by the time it is served.
///
/// Register it before what costs much, such as authentication.
///
/// ```
/// use balafon::Router;
/// use balafon::interceptors::ConcurrencyLimit;
///
/// // Whoever asks whether the server is alive should not be told that it is busy.
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
    /// At most so many calls at a time, streams as well as others.
    pub fn new(calls: usize) -> Self {
        Self { max: calls, open: AtomicUsize::new(0), exempt: Vec::new() }
    }

    /// Neither counts nor refuses calls to these methods.
    ///
    /// # Errors
    /// If it is no [`MethodPattern`].
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
        let place = Place::of(&self.open);
        if place.before >= self.max {
            return Status::unavailable("the server has too many calls at the moment").into();
        }
        next.run(call).await
    }
}

/// Counts a call for as long as it is held, however the call ends.
struct Place<'a> {
    open: &'a AtomicUsize,
    before: usize,
}

impl<'a> Place<'a> {
    fn of(open: &'a AtomicUsize) -> Self {
        // The number alone matters: nothing else is read by what it is.
        Self { open, before: open.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

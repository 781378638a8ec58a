//! Lets each principal call only so often.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::layer::layer_fn;
use tower::{Layer, Service};

use super::auth::Principal;

pub fn layer<S>(calls_per_minute: NonZeroU32) -> impl Layer<S, Service = RateLimit<S>> + Clone {
    let limiter = Arc::new(RateLimiter::keyed(Quota::per_minute(calls_per_minute)));
    layer_fn(move |inner| RateLimit { inner, limiter: limiter.clone() })
}

#[derive(Clone)]
pub struct RateLimit<S> {
    inner: S,
    limiter: Arc<DefaultKeyedRateLimiter<Arc<str>>>,
}

impl<S> Service<Request<Body>> for RateLimit<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let principal = request.extensions().get::<Principal>();
        let passes = principal.is_none_or(|it| self.limiter.check_key(it.name()).is_ok());
        if passes {
            Either::Left(self.inner.call(request))
        } else {
            Either::Right(ready(Ok(Status::resource_exhausted("too many calls").into_http())))
        }
    }
}

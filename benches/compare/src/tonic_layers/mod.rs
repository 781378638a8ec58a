//! What balafon's interceptors do, as layers for tonic.

pub mod access_log;
pub mod auth;
pub mod metrics;
pub mod rate_limit;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use pin_project::pin_project;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::layer::layer_fn;
use tower::{Layer, Service};

/// Sees calls begin.
pub trait Watcher: Clone {
    type Watch: Watch;

    fn begin(&self, request: &Request<Body>) -> Self::Watch;
}

/// Sees one call end.
pub trait Watch: Send + Unpin + 'static {
    /// What the response's headers get.
    fn header(&self) -> Option<(&'static str, HeaderValue)> {
        None
    }

    /// What the trailers said; nothing if the call ended without.
    fn end(&mut self, status: Option<Status>);
}

/// The code of a call, whose client may have gone without one.
pub fn code(status: Option<&Status>) -> Code {
    status.map_or(Code::Cancelled, Status::code)
}

/// A layer that tells `watcher` of all calls.
pub fn watched<S, W: Watcher>(watcher: W) -> impl Layer<S, Service = Watched<S, W>> + Clone {
    layer_fn(move |inner| Watched { inner, watcher: watcher.clone() })
}

#[derive(Clone)]
pub struct Watched<S, W> {
    inner: S,
    watcher: W,
}

impl<S, W> Service<Request<Body>> for Watched<S, W>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    W: Watcher,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Future, W::Watch>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let watch = Some(self.watcher.begin(&request));
        Answer { inner: self.inner.call(request), watch }
    }
}

/// The response's head; a response without a body has its status there.
#[pin_project]
pub struct Answer<F, W> {
    #[pin]
    inner: F,
    watch: Option<W>,
}

impl<F, W, E> Future for Answer<F, W>
where
    F: Future<Output = Result<Response<Body>, E>>,
    W: Watch,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(mut watch) = this.watch.take() {
            if let Some((name, value)) = watch.header() {
                response.headers_mut().insert(name, value);
            }
            if response.body().is_end_stream() {
                watch.end(Status::from_header_map(response.headers()));
            } else {
                response = response.map(|inner| Body::new(Trailed { inner, watch: Some(watch) }));
            }
        }
        Poll::Ready(Ok(response))
    }
}

/// A response's body, up to its trailers.
struct Trailed<W: Watch> {
    inner: Body,
    watch: Option<W>,
}

impl<W: Watch> Trailed<W> {
    fn end(&mut self, trailers: Option<&HeaderMap>) {
        if let Some(mut watch) = self.watch.take() {
            watch.end(trailers.and_then(Status::from_header_map));
        }
    }
}

impl<W: Watch> http_body::Body for Trailed<W> {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.end(Some(trailers));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<W: Watch> Drop for Trailed<W> {
    fn drop(&mut self) {
        self.end(None);
    }
}

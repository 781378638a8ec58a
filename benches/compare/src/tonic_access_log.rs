//! What balafon's `AccessLog` does, as a layer for tonic: a correlation id, and one line for each call, at its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use pin_project::pin_project;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Code, Status};
use tower::layer::layer_fn;
use tower::{Layer, Service};
use uuid::Uuid;

const X_REQUEST_ID: &str = "x-request-id";

pub fn layer<S>() -> impl Layer<S, Service = AccessLog<S>> + Clone {
    layer_fn(|inner| AccessLog { inner })
}

#[derive(Clone)]
pub struct AccessLog<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for AccessLog<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answer<S::Future> {
        let peer = request.extensions().get::<TcpConnectInfo>().and_then(|info| info.remote_addr());
        let id = request.headers().get(X_REQUEST_ID).cloned();
        let line = Line {
            start: Instant::now(),
            method: request.uri().path().to_owned(),
            peer,
            id: id.unwrap_or_else(|| {
                HeaderValue::try_from(Uuid::now_v7().to_string()).expect("a UUID is ASCII")
            }),
        };
        Answer { inner: self.inner.call(request), line: Some(line) }
    }
}

/// What is known of a call at its start.
struct Line {
    start: Instant,
    method: String,
    peer: Option<std::net::SocketAddr>,
    id: HeaderValue,
}

impl Line {
    fn write(&self, headers: Option<&HeaderMap>) {
        let status = headers.and_then(Status::from_header_map);
        let code = status.as_ref().map_or(Code::Cancelled, Status::code);
        let error = status.as_ref().map(Status::message).filter(|_| code != Code::Ok);
        tracing::info!(
            target: "access",
            method = self.method,
            peer = self.peer.map(tracing::field::display),
            status = ?code,
            error,
            duration_us = self.start.elapsed().as_micros() as u64,
            correlation_id = self.id.to_str().unwrap_or_default(),
            "call"
        );
    }
}

/// The response's head; a response without a body has its status there.
#[pin_project]
pub struct Answer<F> {
    #[pin]
    inner: F,
    line: Option<Line>,
}

impl<F, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(line) = this.line.take() {
            response.headers_mut().insert(X_REQUEST_ID, line.id.clone());
            if response.body().is_end_stream() {
                line.write(Some(response.headers()));
            } else {
                response = response.map(|inner| Body::new(Watched { inner, line: Some(line) }));
            }
        }
        Poll::Ready(Ok(response))
    }
}

/// A response's body, up to its trailers.
struct Watched {
    inner: Body,
    line: Option<Line>,
}

impl http_body::Body for Watched {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
            && let Some(line) = self.line.take()
        {
            line.write(Some(trailers));
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

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.write(None);
        }
    }
}

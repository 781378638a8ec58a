use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;

use crate::grpc::server::scheduling::timer::{Timer, timer_after};
use crate::grpc::server::transport::Stream;

/// Limits for a request that is not gRPC: the bytes that are read, and the time until it is
/// answered.
const MAX_BODY: usize = 64 * 1024;
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The response to a request that is not gRPC. It is sent after the request has arrived. HTTP
/// clients that still send when the response comes often report a broken connection.
pub(crate) struct NonGrpcResponse<S> {
    stream: S,
    read: usize,
    timer: Timer,
    /// `None` once it is sent.
    response: Option<Response<Bytes>>,
}

impl<S: Stream> NonGrpcResponse<S> {
    pub(crate) fn new(stream: S, response: Response<Bytes>) -> Self {
        Self { stream, read: 0, timer: timer_after(MAX_WAIT), response: Some(response) }
    }

    /// Ready when the response can be sent.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.read < MAX_BODY
            && let Poll::Ready(received) = self.stream.poll_data(cx)
        {
            let Some(Ok(chunk)) = received else { return Poll::Ready(()) };
            self.read += chunk.len();
            self.stream.release(chunk.len());
        }
        if self.read < MAX_BODY { self.timer.as_mut().poll(cx) } else { Poll::Ready(()) }
    }
}

impl<S: Stream> Future for NonGrpcResponse<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        std::task::ready!(self.poll_request(cx));
        if let Some(response) = self.response.take() {
            let (head, body) = response.into_parts();
            let (status, headers) = (head.status, Cow::Owned(head.headers));
            // Both fail if the client has reset the stream.
            if self.stream.send_headers(status, headers, false).is_ok() {
                let _ = self.stream.send_data(body, true);
            }
        }
        Poll::Ready(())
    }
}

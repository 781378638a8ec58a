use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Response;

use crate::grpc::server::scheduling::timer::{Timer, timer_after};

/// Limits for a request that is not gRPC: the bytes that are read, and the time until it is
/// answered.
const MAX_BODY: usize = 64 * 1024;
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The response to a request that is not gRPC. It is sent after the request has arrived. HTTP
/// clients that still send when the response comes often report a broken connection.
pub(crate) struct NonGrpcResponse {
    body: RecvStream,
    read: usize,
    timer: Timer,
    reply: Option<(SendResponse<Bytes>, Response<Bytes>)>,
}

impl NonGrpcResponse {
    pub(crate) fn new(
        body: RecvStream,
        respond: SendResponse<Bytes>,
        answer: Response<Bytes>,
    ) -> Self {
        let (read, timer) = (0, timer_after(MAX_WAIT));
        Self { body, read, timer, reply: Some((respond, answer)) }
    }

    /// Ready when the response can be sent.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.read < MAX_BODY
            && let Poll::Ready(received) = self.body.poll_data(cx)
        {
            let Some(Ok(chunk)) = received else { return Poll::Ready(()) };
            self.read += chunk.len();
            // Fails only if the stream is gone, and then poll_data reports it.
            let _ = self.body.flow_control().release_capacity(chunk.len());
        }
        if self.read < MAX_BODY { self.timer.as_mut().poll(cx) } else { Poll::Ready(()) }
    }
}

impl Future for NonGrpcResponse {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        std::task::ready!(self.poll_request(cx));
        if let Some((mut respond, answer)) = self.reply.take() {
            let (head, body) = answer.into_parts();
            // Both fail if the client has reset the stream.
            if let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), false) {
                let _ = stream.send_data(body, true);
            }
        }
        Poll::Ready(())
    }
}

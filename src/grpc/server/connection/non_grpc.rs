use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Response;

use crate::grpc::server::scheduling::timer::{Timer, timer_after};

/// What is read of such a request, and for how long it is waited for, before it is answered all
/// the same. Whatever it is, it is not for us.
const MAX_BODY: usize = 64 * 1024;
const MAX_WAIT: Duration = Duration::from_secs(5);

/// A request that is not gRPC, and its answer. It is answered once it has arrived: HTTP clients
/// that are still sending when the answer comes tend to report a broken connection instead.
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

    /// Whether there is a reason not to answer yet.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.read < MAX_BODY
            && let Poll::Ready(received) = self.body.poll_data(cx)
        {
            let Some(Ok(chunk)) = received else { return Poll::Ready(()) };
            self.read += chunk.len();
            // It fails only for a stream that is gone, and then poll_data says so.
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
            // They fail if the client has reset the stream: then nobody waits for the answer.
            if let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), false) {
                let _ = stream.send_data(body, true);
            }
        }
        Poll::Ready(())
    }
}

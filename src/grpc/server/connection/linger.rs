use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;

use crate::grpc::server::scheduling::timer::{Timer, timer_after};
use crate::grpc::server::transport::Stream;

/// Bytes that a client may still send after the end of its call. This is the window of a stream
/// that has not grown, which the client may use up before it sees the end of the call.
const MAX_BYTES: usize = 256 * 1024;

/// The time that a client has to finish its request: several round trips around the world.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Keeps a stream open after its call has ended, so that the client can finish its request. The
/// server may reset the stream at once (RFC 9113, 8.1). Frames in flight would then reach an
/// unknown stream, and many of these errors end the connection.
pub(crate) struct Linger {
    bytes: usize,
    timer: Option<Timer>,
}

impl Linger {
    pub(crate) fn new() -> Self {
        Self { bytes: 0, timer: None }
    }

    /// Ready when the client has half-closed or reset the stream, or when a limit is reached.
    pub(crate) fn poll(&mut self, stream: &mut impl Stream, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(received) = stream.poll_data(cx) {
            let Some(Ok(chunk)) = received else { return Poll::Ready(()) };
            self.bytes += chunk.len();
            if self.bytes > MAX_BYTES {
                return Poll::Ready(());
            }
            stream.release(chunk.len());
        }
        self.timer.get_or_insert_with(|| timer_after(MAX_WAIT)).as_mut().poll(cx)
    }
}

/// The longest request that is read before the response is sent, in bytes.
const MAX_STATED: u64 = 64 * 1024;

/// A short request with a `content-length`. Its response waits until the request is complete, at
/// most as long as a call lingers. HTTP clients send the header, gRPC clients do not. Some HTTP
/// clients, such as curl before 8.0, miss a response that arrives before they have sent the
/// request.
pub(crate) struct SizedRequest {
    timer: Option<Timer>,
}

impl SizedRequest {
    /// `None` if the request is longer than that.
    pub(crate) fn new(length: &HeaderValue) -> Option<Self> {
        let length: u64 = length.to_str().ok()?.parse().ok()?;
        (length <= MAX_STATED).then_some(Self { timer: None })
    }

    /// Ready when the wait has timed out.
    pub(crate) fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.get_or_insert_with(|| timer_after(MAX_WAIT)).as_mut().poll(cx)
    }
}

use std::task::{Context, Poll};
use std::time::Duration;

use h2::RecvStream;
use http::HeaderValue;

use crate::grpc::server::scheduling::timer::{Timer, timer_after};

/// What a client may still send once its call is over, in bytes: the window of a stream, which it
/// may have used up before the end of the call reached it ...
const MAX_BYTES: usize = 256 * 1024;

/// ... and for how long, which is several round trips to the other side of the world.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Lets a client finish whose call was over before its request. A reset at once would be legal
/// (RFC 9113, 8.1), but what was on its way by then is an error on a stream that no longer exists,
/// and enough of these end connections.
pub(crate) struct Linger {
    bytes: usize,
    timer: Option<Timer>,
}

impl Linger {
    pub(crate) fn new() -> Self {
        Self { bytes: 0, timer: None }
    }

    /// Ready when the client has half-closed or reset the stream, or had its time. A stream that is
    /// dropped then is reset with NO_ERROR if it is still open.
    pub(crate) fn poll(&mut self, body: &mut RecvStream, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(received) = body.poll_data(cx) {
            let Some(Ok(chunk)) = received else { return Poll::Ready(()) };
            self.bytes += chunk.len();
            if self.bytes > MAX_BYTES {
                return Poll::Ready(());
            }
            // It fails only for a stream that is gone, and then poll_data says so.
            let _ = body.flow_control().release_capacity(chunk.len());
        }
        self.timer.get_or_insert_with(|| timer_after(MAX_WAIT)).as_mut().poll(cx)
    }
}

/// The longest request that is waited for before its answer, in bytes.
const MAX_STATED: u64 = 64 * 1024;

/// A short request whose length its client has stated. It has all of it at hand, so its answer waits
/// for it, for as long as a call lingers. HTTP clients state it, those of gRPC do not. Of the former
/// some, such as curl before 8.0, never notice an answer that has come before the request was sent.
pub(crate) struct SizedRequest {
    timer: Option<Timer>,
}

impl SizedRequest {
    /// `None` if it is a long one.
    pub(crate) fn new(length: &HeaderValue) -> Option<Self> {
        let length: u64 = length.to_str().ok()?.parse().ok()?;
        (length <= MAX_STATED).then_some(Self { timer: None })
    }

    /// Ready when it was waited for long enough.
    pub(crate) fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.get_or_insert_with(|| timer_after(MAX_WAIT)).as_mut().poll(cx)
    }
}

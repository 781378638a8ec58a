use std::task::{Context, Poll};
use std::time::Duration;

use h2::RecvStream;

use super::timer::{Timer, timer_after};

/// What a client may still send once its call is over, in bytes: the window of a stream, which it
/// may have used up before the end of the call reached it ...
const MAX_BYTES: usize = 256 * 1024;

/// ... and for how long, which is several round trips to the other side of the world.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Lets a client finish whose call was over before its request. A reset at once would be legal
/// (RFC 9113, 8.1), but what was on its way by then is an error on a stream that no longer exists,
/// and enough of these end connections.
pub(super) struct Linger {
    bytes: usize,
    timer: Option<Timer>,
}

impl Linger {
    pub(super) fn new() -> Self {
        Self { bytes: 0, timer: None }
    }

    /// Ready when the client has half-closed or reset the stream, or had its time. A stream that is
    /// dropped then is reset with NO_ERROR if it is still open.
    pub(super) fn poll(&mut self, body: &mut RecvStream, cx: &mut Context<'_>) -> Poll<()> {
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

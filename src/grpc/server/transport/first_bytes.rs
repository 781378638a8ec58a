use std::task::Context;
use std::time::Duration;

use crate::grpc::server::accept::other_protocol::OtherProtocol;
use crate::grpc::server::scheduling::timer::{Timer, timer_after};

/// How long the server waits for the client's first bytes before it sends its SETTINGS. All HTTP/2
/// clients send at once. A client that waits for the server, as HTTP/2 permits, waits this long.
const TIMEOUT: Duration = Duration::from_millis(100);

/// Waits for the client's first bytes, and detects other protocols by them. Until they have
/// arrived, or time has passed, nothing may be written.
pub(crate) struct FirstBytes {
    /// Set while the first bytes are awaited.
    timer: Option<Timer>,
    other_protocol: Option<OtherProtocol>,
}

impl FirstBytes {
    /// `agreed` is whether ALPN has already negotiated HTTP/2. Then nothing is awaited.
    pub(crate) fn new(agreed: bool) -> Self {
        Self { timer: (!agreed).then(|| timer_after(TIMEOUT)), other_protocol: None }
    }

    pub(crate) fn are_awaited(&self) -> bool {
        self.timer.is_some()
    }

    /// Returns true once, when the wait has timed out.
    pub(crate) fn poll_timed_out(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(timer) = &mut self.timer else { return false };
        let timed_out = timer.as_mut().poll(cx).is_ready();
        if timed_out {
            self.timer = None;
        }
        timed_out
    }

    /// Ends the wait with these bytes. Returns the client's protocol if it is a known one other
    /// than HTTP/2.
    pub(crate) fn received(&mut self, bytes: &[u8]) -> Option<OtherProtocol> {
        let _awaited = self.timer.take()?;
        self.other_protocol = OtherProtocol::detect(bytes);
        self.other_protocol
    }

    /// The client's protocol if it was detected as another one than HTTP/2.
    pub(crate) fn other_protocol(&self) -> Option<OtherProtocol> {
        self.other_protocol
    }
}

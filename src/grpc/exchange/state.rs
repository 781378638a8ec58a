use std::task::{Context, Poll, Waker};

use super::inbound::Inbound;
use super::outbound::Outbound;
use super::set_waker;
use crate::grpc::frame::{Frame, WholeFrames};
use crate::grpc::status::Status;

/// What a call has in hand, behind the exchange's lock.
pub(crate) struct State {
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    transport: Transport,
    end: Option<End>,
    /// The server has begun to drain.
    draining: bool,
    /// Bytes that the handler has charged to the call.
    charged: usize,
}

/// How the call has ended for the handler.
pub(super) struct End {
    pub(super) status: Status,
    /// The transport was dropped.
    pub(super) abandoned: bool,
}

/// The transport's side of the wake-ups: while it is being polled it looks at everything before
/// it rests, so it need not be woken.
#[derive(Default)]
struct Transport {
    running: bool,
    /// There is window to give back.
    inbound_changed: bool,
    /// There is something to send.
    outbound_changed: bool,
    waker: Option<Waker>,
}

impl State {
    pub(super) fn new(inbound: Inbound, outbound: Outbound) -> Self {
        let transport = Transport::default();
        Self { inbound, outbound, transport, end: None, draining: false, charged: 0 }
    }

    pub(super) fn ended(&self) -> Option<&Status> {
        self.end.as_ref().map(|end| &end.status)
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.abandoned)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// Ends the call and gives the wakers of the tasks that wait for it; `None` if it had ended before.
    pub(super) fn end(&mut self, end: End) -> Option<impl Iterator<Item = Waker> + use<>> {
        if self.end.is_some() {
            return None;
        }
        self.end = Some(end);
        self.inbound.discard();
        let reader = self.inbound.take_reader();
        Some(reader.into_iter().chain(self.outbound.take_all_writers()))
    }

    /// Frees what will not be read, and gives the bytes of window that are free then.
    pub(super) fn close(&mut self) -> usize {
        self.inbound.discard();
        self.release()
    }

    pub(super) fn charge(&mut self, before: usize, after: usize) {
        self.charged = self.charged.saturating_sub(before).saturating_add(after);
        // A handler in a task of its own may hold more than the transport knows of.
        self.transport.notify();
    }

    /// There is something new to send.
    pub(super) fn outbound_changed(&mut self) {
        self.transport.outbound_changed = true;
        self.transport.notify();
    }

    /// The handler's side has changed what it holds.
    pub(super) fn held_changed(&mut self) {
        self.transport.notify();
    }

    pub(super) fn poll_unsent(
        &mut self,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Status>> {
        match self.ended() {
            Some(status) => Poll::Ready(Err(status.clone())),
            None => self.outbound.poll_unsent(most, cx).map(Ok),
        }
    }

    pub(super) fn poll_only(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let polled = self.inbound.poll_only(cx);
        self.inbound_taken();
        polled
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame>, Status>> {
        let polled = self.inbound.poll_frame(cx);
        self.inbound_taken();
        let began = polled.is_pending() && !self.inbound.awaited;
        self.inbound.awaited = polled.is_pending();
        if began {
            // A handler in a task of its own may be waited for by nobody else.
            self.transport.notify();
        }
        polled
    }

    pub(super) fn whole_frames(&mut self) -> Option<WholeFrames> {
        let frames = Some(self.inbound.whole_frames()).filter(|frames| !frames.is_empty());
        self.inbound_taken();
        frames
    }

    fn inbound_taken(&mut self) {
        if self.inbound.releasable() > 0 {
            self.transport.inbound_changed = true;
            self.transport.notify();
        }
    }

    // The transport's side.

    /// From here until [`rest`](Self::rest) says so the transport need not be woken.
    pub(crate) fn begin(&mut self) {
        self.transport.running = true;
    }

    /// What the handler has taken so far is seen; gives how many bytes of window are free.
    pub(crate) fn release(&mut self) -> usize {
        self.transport.inbound_changed = false;
        self.inbound.release()
    }

    /// Bytes of memory that hold messages which wait for the handler or the client, and what the
    /// handler has charged.
    pub(crate) fn held(&self) -> usize {
        self.inbound.held() + self.outbound.held() + self.charged
    }

    /// Whether the handler waits for the client to send a message, or to read.
    pub(crate) fn awaits_client(&self) -> bool {
        self.inbound.awaited || self.outbound.has_writers()
    }

    /// Bytes that have left for the client.
    pub(crate) fn gone(&self) -> u64 {
        self.outbound.gone()
    }

    /// Gives memory back that is not needed, before the call waits.
    pub(crate) fn compact(&mut self) {
        self.inbound.compact();
    }

    /// What the handler has written so far is seen.
    pub(crate) fn outbound_seen(&mut self) -> &mut Outbound {
        self.transport.outbound_changed = false;
        &mut self.outbound
    }

    /// Ends the transport's turn and leaves its waker, unless something has changed that it has
    /// not seen: then it is `false` and the transport has to look again.
    pub(crate) fn rest(&mut self, cx: &mut Context<'_>) -> bool {
        let transport = &mut self.transport;
        if transport.inbound_changed || transport.outbound_changed {
            return false;
        }
        transport.running = false;
        set_waker(&mut transport.waker, cx);
        true
    }
}

impl Transport {
    fn notify(&mut self) {
        if !self.running
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

use std::task::{Context, Poll, Waker};

use super::inbound::Inbound;
use super::outbound::Outbound;
use super::set_waker;
use crate::grpc::frame::{Frame, WholeFrames};
use crate::grpc::status::Status;

/// The state of a call, behind the exchange's lock.
pub(crate) struct State {
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    transport: Transport,
    /// The status with which the call has ended for the handler.
    end: Option<Status>,
    /// Whether the server has begun to drain.
    draining: bool,
    /// The bytes that the handler has charged to the call.
    charged: usize,
}

/// The transport's wake-up state. While the transport is being polled, it checks every change
/// before it rests, so it need not be woken.
#[derive(Default)]
struct Transport {
    running: bool,
    /// There is window to return to the client.
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
        self.end.as_ref()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// Ends the call, and returns the wakers of the tasks that wait for it. Returns `None` if the
    /// call had ended before.
    pub(super) fn end(&mut self, status: Status) -> Option<impl Iterator<Item = Waker> + use<>> {
        if self.end.is_some() {
            return None;
        }
        self.end = Some(status);
        self.inbound.discard();
        let reader = self.inbound.take_reader();
        Some(reader.into_iter().chain(self.outbound.take_all_writers()))
    }

    /// Frees the unread input. Returns the bytes of window that this frees.
    pub(super) fn close(&mut self) -> usize {
        self.inbound.discard();
        self.release()
    }

    pub(super) fn charge(&mut self, before: usize, after: usize) {
        self.charged = self.charged.saturating_sub(before).saturating_add(after);
        // A handler in a separate task may hold more memory than the transport has accounted for.
        self.transport.notify();
    }

    /// Records that there is something new to send.
    pub(super) fn outbound_changed(&mut self) {
        self.transport.outbound_changed = true;
        self.transport.notify();
    }

    /// Records that the handler's side holds another amount of memory.
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
        if !matches!(polled, Poll::Ready(Ok(()))) {
            // Otherwise the message is taken next.
            self.inbound_taken();
        }
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
            // The transport has to be woken: its timer for an idle client must start, also if the
            // handler runs in a separate task.
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

    /// Begins the transport's turn. Until [`rest`](Self::rest) returns `true`, the transport need
    /// not be woken.
    pub(crate) fn begin(&mut self) {
        self.transport.running = true;
    }

    /// Marks the handler's reads as handled by the transport. Returns the bytes of window to return
    /// to the client.
    pub(crate) fn release(&mut self) -> usize {
        self.transport.inbound_changed = false;
        self.inbound.release()
    }

    /// Returns the memory, in bytes, of messages that wait for the handler or the client, plus the
    /// handler's charges.
    pub(crate) fn held(&self) -> usize {
        self.inbound.held() + self.outbound.held() + self.charged
    }

    /// Whether the handler waits for the client to send a message, or to read.
    pub(crate) fn awaits_client(&self) -> bool {
        self.inbound.awaited || self.outbound.has_writers()
    }

    /// Returns the number of bytes that were passed to the transport.
    pub(crate) fn gone(&self) -> u64 {
        self.outbound.gone()
    }

    /// Frees spare memory before the call waits.
    pub(crate) fn compact(&mut self) {
        self.inbound.compact();
    }

    /// Marks the handler's writes as handled by the transport.
    pub(crate) fn outbound_seen(&mut self) -> &mut Outbound {
        self.transport.outbound_changed = false;
        &mut self.outbound
    }

    /// Ends the transport's turn and registers its waker. Returns `false` if a change is not
    /// handled yet: then the transport has to check again.
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

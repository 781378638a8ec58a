use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Buf;

use super::Exchange;
use super::inbound::wrong_count;
use super::state::State;
use crate::grpc::code::Code;
use crate::grpc::frame::{Frame, Payload, WholeFrames};
use crate::grpc::inflate_budget::Inflating;
use crate::grpc::status::Status;

/// The next part of the input for the handler.
pub(crate) enum Received {
    /// Uncompressed messages that arrived together.
    Frames(WholeFrames),
    /// One message, decompressed if it was compressed.
    Message(Payload),
    /// The client has half-closed.
    End,
}

/// The handler's side of the request.
impl Exchange {
    /// Returns the next messages, as many as are available at once.
    pub(crate) fn poll_received(&self, cx: &mut Context<'_>) -> Poll<Result<Received, Status>> {
        let mut state = self.lock();
        state.inbound.in_hand = 0;
        if state.ended().is_none()
            && state.inbound.inflating.is_none()
            && let Some(frames) = state.whole_frames()
        {
            state.inbound.awaited = false;
            self.compressed.store(false, Ordering::Relaxed);
            return Poll::Ready(Ok(Received::Frames(frames)));
        }
        let message = ready!(self.poll_message(state, cx))?;
        Poll::Ready(Ok(message.map_or(Received::End, Received::Message)))
    }

    /// Returns the only message of a call, once the client has half-closed.
    pub(crate) fn poll_only(&self, cx: &mut Context<'_>) -> Poll<Result<Payload, Status>> {
        let mut state = self.lock();
        if let Some(status) = state.ended() {
            return Poll::Ready(Err(status.clone()));
        }
        ready!(state.poll_only(cx)).inspect_err(|status| self.count_refused(status))?;
        let message = ready!(self.poll_message(state, cx))?;
        let message = message.ok_or_else(|| wrong_count("none arrived"))?;
        self.admit()?;
        self.count_received();
        Poll::Ready(Ok(message))
    }

    /// Returns the next message, or `None` after the client's half-close.
    fn poll_message(
        &self,
        mut state: MutexGuard<'_, State>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Payload>, Status>> {
        if let Some(status) = state.ended() {
            return Poll::Ready(Err(status.clone()));
        }
        let inflating = match state.inbound.inflating.take() {
            Some(inflating) => inflating,
            None => match ready!(state.poll_frame(cx))
                .inspect_err(|status| self.count_refused(status))?
            {
                None => return Poll::Ready(Ok(None)),
                Some(Frame { compressed, payload })
                    // Some clients set the compressed flag on an empty message without compressing
                    // it.
                    if !compressed || !payload.has_remaining() && self.terms.encoding.is_some() =>
                {
                    drop(state);
                    return Poll::Ready(Ok(Some(self.taken(compressed, payload))));
                }
                Some(Frame { payload, .. }) => {
                    let started = self.inflating(payload);
                    Box::new(started.inspect_err(|status| state.inbound.fail(status))?)
                }
            },
        };
        drop(state);
        let message = ready!(self.poll_inflated(inflating, cx))?;
        Poll::Ready(Ok(Some(self.taken(true, message))))
    }

    /// Decompresses one slice, without the lock.
    fn poll_inflated(
        &self,
        mut inflating: Box<Inflating>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Payload, Status>> {
        match inflating.poll(cx) {
            Poll::Ready(Ok(message)) => Poll::Ready(Ok(message)),
            Poll::Pending => {
                let mut state = self.lock();
                if let Some(status) = state.ended() {
                    return Poll::Ready(Err(status.clone()));
                }
                state.inbound.inflating = Some(inflating);
                // The message may hold more memory than the transport has accounted for.
                state.held_changed();
                Poll::Pending
            }
            Poll::Ready(Err(status)) => {
                self.fail_input(&status);
                Poll::Ready(Err(status))
            }
        }
    }

    fn inflating(&self, payload: Payload) -> Result<Inflating, Status> {
        // PROTOCOL-HTTP2, "Compressed-Flag": without an encoding the flag is an error.
        let encoding = self.terms.encoding.ok_or_else(|| {
            Status::internal("compressed message in a call without grpc-encoding")
        })?;
        let budget = self.terms.inflate_budget.clone();
        Ok(Inflating::new(encoding, payload, self.terms.receive_limit, budget))
    }

    /// Counts a message that is longer than the limit, in a call with compression. The client's
    /// connection pays for it, like for a message that is too long once decompressed.
    fn count_refused(&self, status: &Status) {
        if let Some(budget) = &self.terms.inflate_budget
            && status.code() == Code::ResourceExhausted
        {
            budget.refuse();
        }
    }

    /// Passes a message to the observers before the handler gets it.
    fn taken(&self, compressed: bool, mut message: Payload) -> Payload {
        self.compressed.store(compressed, Ordering::Relaxed);
        if self.is_observed() {
            let bytes = message.into_bytes();
            self.show_received(&bytes);
            message = bytes.into();
        }
        message
    }

    /// Counts a message that the handler has received.
    pub(crate) fn count_received(&self) {
        let count = self.received.load(Ordering::Relaxed);
        self.received.store(count + 1, Ordering::Relaxed);
    }

    /// Ends the input with an error. Later input is discarded.
    pub(crate) fn fail_input(&self, status: &Status) {
        self.lock().inbound.fail(status);
    }

    /// Records that the handler does not wait for a message any more.
    pub(crate) fn stop_waiting(&self) {
        self.lock().inbound.awaited = false;
    }
}

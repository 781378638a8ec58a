use std::mem;
use std::sync::MutexGuard;
use std::task::{Context, Poll, ready};

use prost::Message;

use super::outbound::COALESCE;
use super::state::State;
use super::{Exchange, MessageEvent};
use crate::grpc::frame;
use crate::grpc::metadata::Metadata;
use crate::grpc::status::Status;

/// The handler's side of the response.
impl Exchange {
    /// Ready when at most `most` bytes are unsent.
    pub(crate) fn poll_unsent(
        &self,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Status>> {
        self.lock().poll_unsent(most, cx)
    }

    /// Waits while a full frame is unsent, then encodes a message. The message is compressed if the
    /// call compresses its responses and `compress` is true.
    pub(crate) fn poll_send(
        &self,
        message: &impl Message,
        compress: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Status>> {
        let mut state = self.lock();
        ready!(state.poll_unsent(COALESCE - 1, cx))?;
        Poll::Ready(self.write_to(state, message, compress))
    }

    /// Sends `frames`, and waits whenever a full frame is unsent. Afterwards `frames` has the unsent
    /// ones.
    pub(crate) fn poll_send_frames(
        &self,
        frames: &mut &[u8],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Status>> {
        while !frames.is_empty() {
            let mut state = self.lock();
            ready!(state.poll_unsent(COALESCE - 1, cx))?;
            let count = state.outbound.append(frames)?;
            state.outbound_changed();
            drop(state);
            let (sent, unsent) = frames.split_at(count);
            *frames = unsent;
            if self.is_observed() {
                frame::payloads(sent).for_each(|payload| self.show(MessageEvent::Sent(payload)));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Encodes a message without waiting, compressed if the call compresses its responses.
    pub(crate) fn write(&self, message: &impl Message) -> Result<(), Status> {
        self.respond(message, Metadata::new(), Metadata::new())
    }

    /// Sends the only message of a response, with its metadata.
    pub(crate) fn respond(
        &self,
        message: &impl Message,
        metadata: Metadata,
        trailers: Metadata,
    ) -> Result<(), Status> {
        let mut state = self.lock();
        if let Some(status) = state.ended() {
            return Err(status.clone());
        }
        // The metadata is set first, because the message causes the headers to be sent.
        state.outbound.metadata.merge(metadata);
        state.outbound.trailers.merge(trailers);
        self.write_to(state, message, true)
    }

    fn write_to(
        &self,
        mut state: MutexGuard<'_, State>,
        message: &impl Message,
        compress: bool,
    ) -> Result<(), Status> {
        let copy = state.outbound.write(message, compress, self.is_observed())?;
        state.outbound_changed();
        drop(state);
        if let Some(copy) = copy {
            self.show(MessageEvent::Sent(&copy));
        }
        Ok(())
    }

    /// Ready when less than a full frame is unsent. Returns the trailing metadata.
    pub(crate) fn poll_nearly_sent(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<(Result<(), Status>, Metadata)> {
        let mut state = self.lock();
        let sent = ready!(state.poll_unsent(COALESCE - 1, cx));
        Poll::Ready((sent, mem::take(&mut state.outbound.trailers)))
    }

    /// Takes the trailing metadata.
    pub(crate) fn take_trailers(&self) -> Metadata {
        mem::take(&mut self.lock().outbound.trailers)
    }

    /// Requests that the headers are sent now.
    pub(crate) fn flush_headers(&self) {
        let mut state = self.lock();
        state.outbound.flush_headers();
        state.outbound_changed();
    }
}

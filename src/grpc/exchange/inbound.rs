use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::set_waker;
use crate::grpc::frame::{Frame, FrameDecoder, WholeFrames};
use crate::grpc::inflate_budget::Inflating;
use crate::grpc::status::Status;

/// Incoming bytes that may wait for the handler while the client's window is still replenished: the
/// default window of HTTP/2.
pub(super) const READ_AHEAD: usize = 64 * 1024;

/// The received bytes that wait for the handler.
pub(crate) struct Inbound {
    decoder: FrameDecoder,
    /// The end of the input: the half-close, or the reason why no more will arrive.
    end: Option<Result<(), Status>>,
    /// Bytes received whose flow-control window was not returned to the client yet.
    unreleased: usize,
    /// A message whose decompression takes more than one slice.
    pub(super) inflating: Option<Box<Inflating>>,
    /// Bytes that the handler has taken, and decodes message by message.
    pub(super) in_hand: usize,
    /// Whether the handler waits for the next message of a stream.
    pub(super) awaited: bool,
    /// Whether later input is discarded.
    discarded: bool,
    reader: Option<Waker>,
}

impl Inbound {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            decoder: FrameDecoder::new(limit),
            end: None,
            unreleased: 0,
            inflating: None,
            in_hand: 0,
            awaited: false,
            discarded: false,
            reader: None,
        }
    }

    /// Returns the messages that lie whole in the next chunk, without decompression.
    pub(super) fn whole_frames(&mut self) -> WholeFrames {
        let frames = self.decoder.whole_frames();
        self.in_hand = frames.len();
        frames
    }

    /// Ready when the only message of a call has arrived, followed by the half-close. The message
    /// stays here until then, and counts as held.
    pub(super) fn poll_only(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let error = match self.decoder.has_another() {
            Ok(true) => wrong_count("more arrived"),
            Ok(false) => match &self.end {
                None => {
                    set_waker(&mut self.reader, cx);
                    return Poll::Pending;
                }
                Some(Ok(())) => match self.decoder.end_after_next() {
                    Ok(()) => return Poll::Ready(Ok(())),
                    Err(error) => error.into(),
                },
                Some(Err(status)) => return Poll::Ready(Err(status.clone())),
            },
            Err(error) => error.into(),
        };
        self.fail(&error);
        Poll::Ready(Err(error))
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame>, Status>> {
        let error = match self.decoder.next_frame() {
            Ok(Some(frame)) => return Poll::Ready(Ok(Some(frame))),
            Ok(None) => match &self.end {
                None => {
                    set_waker(&mut self.reader, cx);
                    return Poll::Pending;
                }
                Some(Ok(())) => match self.decoder.end() {
                    Ok(()) => return Poll::Ready(Ok(None)),
                    Err(error) => error.into(),
                },
                Some(Err(status)) => return Poll::Ready(Err(status.clone())),
            },
            Err(error) => error.into(),
        };
        self.fail(&error);
        Poll::Ready(Err(error))
    }

    pub(crate) fn receive(&mut self, chunk: Bytes) {
        self.unreleased += chunk.len();
        if !self.discarded {
            self.decoder.push(chunk);
        }
    }

    /// Returns the memory of the bytes that the handler has not processed.
    pub(super) fn held(&self) -> usize {
        let inflating = self.inflating.as_ref().map_or(0, |inflating| inflating.memory());
        self.decoder.held() + inflating + self.in_hand
    }

    /// Frees spare memory. It is called before the bytes here have to wait.
    pub(super) fn compact(&mut self) {
        self.decoder.compact();
    }

    /// Returns the window to return to the client: all bytes that the handler has taken, and the
    /// [`READ_AHEAD`] that may wait for it.
    pub(super) fn releasable(&self) -> usize {
        let held = self.decoder.unread().saturating_sub(READ_AHEAD);
        self.unreleased.saturating_sub(held)
    }

    /// Returns the releasable window, and counts it as released.
    pub(super) fn release(&mut self) -> usize {
        let count = self.releasable();
        self.unreleased -= count;
        count
    }

    pub(crate) fn finish(&mut self, end: Result<(), Status>) {
        self.end.get_or_insert(end);
    }

    /// Ends the input with an error. Later input is discarded.
    pub(super) fn fail(&mut self, status: &Status) {
        self.end = Some(Err(status.clone()));
        self.in_hand = 0;
        self.discard();
    }

    /// Frees the unread input, and discards later input. The handler's future may outlive its call.
    pub(crate) fn discard(&mut self) {
        self.discarded = true;
        self.decoder = FrameDecoder::new(0);
        self.inflating = None;
    }

    /// Returns the reader's waker. The transport wakes it after it has released the lock.
    pub(crate) fn take_reader(&mut self) -> Option<Waker> {
        self.reader.take()
    }
}

/// Returns the error for a wrong number of messages. gRPC's `statuscodes.md` assigns UNIMPLEMENTED
/// to it, and the conformance suite expects that. grpc-go and grpc-java send INTERNAL.
pub(super) fn wrong_count(what: &str) -> Status {
    Status::unimplemented(format!("the method takes exactly one request message, {what}"))
}

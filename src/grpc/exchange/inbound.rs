use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::set_waker;
use crate::grpc::frame::{Frame, FrameDecoder, WholeFrames};
use crate::grpc::inflate_budget::Inflating;
use crate::grpc::status::Status;

/// Incoming bytes that may wait for the handler before the client's flow control feels it: the
/// default window of HTTP/2.
pub(super) const READ_AHEAD: usize = 64 * 1024;

/// What has arrived and waits for the handler.
pub(crate) struct Inbound {
    decoder: FrameDecoder,
    /// How the input ended: half-close, or why no more will come.
    end: Option<Result<(), Status>>,
    /// Bytes received whose window has not been given back to the client.
    unreleased: usize,
    /// A message that takes more than one slice of time to decompress.
    pub(super) inflating: Option<Box<Inflating>>,
    /// Bytes that the handler has in hand, to decode one by one.
    pub(super) in_hand: usize,
    /// The handler waits for the next message of a stream.
    pub(super) awaited: bool,
    /// Nobody will read any more.
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

    /// The messages that can be had without looking further, however many.
    pub(super) fn whole_frames(&mut self) -> WholeFrames {
        let frames = self.decoder.whole_frames();
        self.in_hand = frames.len();
        frames
    }

    /// Ready when the only message of a call has come, and the half-close right behind it. It stays
    /// here until then, where it counts as held.
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

    /// Bytes of memory that hold what the handler has not taken.
    pub(super) fn held(&self) -> usize {
        let inflating = self.inflating.as_ref().map_or(0, |inflating| inflating.memory());
        self.decoder.held() + inflating + self.in_hand
    }

    /// Gives memory back that is not needed, before what is here has to wait.
    pub(super) fn compact(&mut self) {
        self.decoder.compact();
    }

    /// Window to give back: of all that the handler has taken, and of what may wait for it.
    pub(super) fn releasable(&self) -> usize {
        let held = self.decoder.unread().saturating_sub(READ_AHEAD);
        self.unreleased.saturating_sub(held)
    }

    /// Counts what is releasable as given back.
    pub(super) fn release(&mut self) -> usize {
        let count = self.releasable();
        self.unreleased -= count;
        count
    }

    pub(crate) fn finish(&mut self, end: Result<(), Status>) {
        self.end.get_or_insert(end);
    }

    /// After a fault of the client's there is nothing more to read.
    pub(super) fn fail(&mut self, status: &Status) {
        self.end = Some(Err(status.clone()));
        self.in_hand = 0;
        self.discard();
    }

    /// Frees what nobody will read, and keeps nothing more: the handler may outlive its call.
    pub(crate) fn discard(&mut self) {
        self.discarded = true;
        self.decoder = FrameDecoder::new(0);
        self.inflating = None;
    }

    /// The reader's waker, for the transport to wake after it has released the lock.
    pub(crate) fn take_reader(&mut self) -> Option<Waker> {
        self.reader.take()
    }
}

/// The codes list of gRPC gives UNIMPLEMENTED to a violation of cardinality, and the conformance
/// suite expects it; grpc-go and grpc-java answer INTERNAL.
pub(super) fn wrong_count(what: &str) -> Status {
    Status::unimplemented(format!("the method takes exactly one request message, {what}"))
}

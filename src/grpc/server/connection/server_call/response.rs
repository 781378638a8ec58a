use std::borrow::Cow;
use std::task::{Context, Poll};

use http::StatusCode;

use super::errors::status_of;
use crate::grpc::call::Outcome;
use crate::grpc::compression::Encodings;
use crate::grpc::exchange::Outbound;
use crate::grpc::header_list::{OverLimit, fit, response, trailers, trailers_only};
use crate::grpc::method::Method;
use crate::grpc::server::connection::linger::Linger;
use crate::grpc::server::transport::{Stream, StreamError};
use crate::grpc::status::Status;

/// The stage of a response, and what is known of it.
///
/// ```text
///          an error before anything is sent: Trailers-Only
///          .------------------------------------------------.
///          |                                                v
///  Headers ----> Body ------- outcome, buffer empty ----> Lingering ---> Closed
///     headers sent  |                                         until the request ends
///                   `-- stopped in the middle of a message -----------> Closed
///                                                            RST_STREAM(CANCEL)
/// ```
pub(super) struct Response {
    pub(super) stage: Stage,
    /// The outcome of the call, from the end of the handler until the status is sent.
    pub(super) outcome: Option<Outcome>,
    pub(super) method: &'static Method,
    /// The request encodings that the server accepts, for the response headers.
    pub(super) accepted: Encodings,
    /// Whether the client has reset the stream.
    pub(super) reset: bool,
}

pub(super) enum Stage {
    /// Nothing has been sent.
    Headers,
    /// The headers have been sent.
    Body,
    /// The status has been sent, and the request is still arriving.
    Lingering(Linger),
    Closed,
}

/// The result of [`Response::send`].
pub(super) enum Sent {
    /// The status has been sent, so the call has ended.
    Status,
    /// Everything that the handler has written and that flow control permits has been sent.
    Available,
    /// The stream is gone for this reason.
    StreamLost(Status),
    /// The call must end for this reason.
    Failed(Status),
}

impl Response {
    /// Whether nothing has been sent.
    pub(super) fn is_unsent(&self) -> bool {
        matches!(self.stage, Stage::Headers)
    }

    /// Whether the response is complete. Its stream then only receives the rest of the request, or
    /// is closed.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.stage, Stage::Lingering(_) | Stage::Closed)
    }

    /// Fails a successful call if its trailing metadata exceeds the client's limit.
    pub(super) fn check_trailers(&mut self, limit: usize) {
        if let Some(outcome) = &mut self.outcome
            && let Err(over) = fit(outcome, limit)
        {
            self.log(&over);
        }
    }

    /// Sends the headers when they are due, then messages as far as flow control permits.
    pub(super) fn send(
        &mut self,
        stream: &mut impl Stream,
        outbound: &mut Outbound,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Sent {
        if self.is_unsent()
            && let Some(sent) = self.send_headers(stream, outbound, limit)
        {
            return sent;
        }
        if !matches!(self.stage, Stage::Body) {
            return Sent::Status;
        }
        send_messages(stream, outbound, cx);
        Sent::Available
    }

    /// Sends the status after the last message. Returns false if it was not due.
    pub(super) fn send_trailers(&mut self, stream: &mut impl Stream, limit: usize) -> bool {
        if matches!(self.stage, Stage::Body)
            && let Some(outcome) = self.outcome.take()
        {
            stream.send_trailers(trailers(outcome, limit));
            return true;
        }
        false
    }

    /// Sends the headers if they are due. `None` if messages may follow.
    fn send_headers(
        &mut self,
        stream: &mut impl Stream,
        outbound: &mut Outbound,
        limit: usize,
    ) -> Option<Sent> {
        let failed = self.outcome.as_ref().is_some_and(|outcome| !outcome.status.is_ok());
        if failed && !self.method.server_streaming {
            // The call failed after it had written its only message.
            outbound.discard();
        }
        if !outbound.wants_headers() {
            let no_metadata = outbound.metadata.is_empty();
            if let Some(outcome) = self.outcome.take_if(|_| failed && no_metadata) {
                return Some(self.send_trailers_only(stream, outcome, limit));
            }
            if self.outcome.is_none() {
                return Some(Sent::Available);
            }
        }
        let encoding = outbound.compressor.map(|compressor| compressor.encoding);
        let metadata = std::mem::take(&mut outbound.metadata);
        let headers = match response(metadata, encoding, self.accepted, limit) {
            Ok(headers) => headers,
            Err(over) => {
                self.log(&over);
                outbound.withdraw();
                let Some(mut outcome) = self.outcome.take() else {
                    return Some(Sent::Failed(Status::from(&over)));
                };
                if outcome.status.is_ok() {
                    outcome.status = Status::from(&over);
                }
                return Some(self.send_trailers_only(stream, outcome, limit));
            }
        };
        match stream.send_headers(StatusCode::OK, headers, false) {
            Ok(()) => {
                self.stage = Stage::Body;
                None
            }
            Err(error) => {
                outbound.discard();
                Some(Sent::StreamLost(self.lost(&error)))
            }
        }
    }

    fn send_trailers_only(
        &mut self,
        stream: &mut impl Stream,
        outcome: Outcome,
        limit: usize,
    ) -> Sent {
        let headers = trailers_only(outcome, self.accepted, limit);
        // Fails only if the stream is gone.
        let _ = stream.send_headers(StatusCode::OK, Cow::Owned(headers), true);
        Sent::Status
    }

    /// Ready with a status when the client has reset the stream or the stream is lost.
    pub(super) fn poll_reset(
        &mut self,
        stream: &mut impl Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Status> {
        if self.is_complete() {
            return Poll::Pending;
        }
        stream.poll_reset(cx).map(|error| self.lost(&error))
    }

    /// Records that the stream has failed, and returns the status.
    pub(super) fn lost(&mut self, error: &StreamError) -> Status {
        self.reset |= matches!(error, StreamError::Reset(_));
        status_of(error)
    }

    fn log(&self, over: &OverLimit) {
        tracing::warn!(path = self.method.path, "call failed: {over}");
    }
}

fn send_messages(stream: &mut impl Stream, outbound: &mut Outbound, cx: &mut Context<'_>) {
    while outbound.buffered() > 0 {
        let sent = match stream.poll_capacity(outbound.buffered(), cx) {
            Poll::Ready(Ok(count)) => stream.send_data(outbound.split(count), false),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => return,
        };
        if sent.is_err() {
            outbound.discard();
        }
    }
}

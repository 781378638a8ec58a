use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};

use super::errors::{status_of, status_of_reset};
use crate::grpc::call::Outcome;
use crate::grpc::compression::Encodings;
use crate::grpc::exchange::Outbound;
use crate::grpc::header_list::{OverLimit, fit, response, trailers, trailers_only};
use crate::grpc::method::Method;
use crate::grpc::server::connection::context::ConnectionContext;
use crate::grpc::server::connection::linger::Linger;
use crate::grpc::status::Status;

/// The response and its stage.
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
    Headers(SendResponse<Bytes>),
    /// The headers have been sent.
    Body(SendStream<Bytes>),
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
        matches!(self.stage, Stage::Headers(_))
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
        outbound: &mut Outbound,
        context: &ConnectionContext,
        cx: &mut Context<'_>,
    ) -> Sent {
        if self.is_unsent()
            && let Some(sent) = self.send_headers(outbound, context.shared_state.header_limit(), cx)
        {
            return sent;
        }
        let Stage::Body(stream) = &mut self.stage else { return Sent::Status };
        send_messages(stream, outbound, context, cx);
        Sent::Available
    }

    /// Sends the status after the last message. Returns false if it was not due.
    pub(super) fn send_trailers(&mut self, limit: usize) -> bool {
        if let Stage::Body(stream) = &mut self.stage
            && let Some(outcome) = self.outcome.take()
        {
            let _ = stream.send_trailers(trailers(outcome, limit));
            return true;
        }
        false
    }

    /// Sends the headers if they are due. `None` if messages may follow.
    fn send_headers(
        &mut self,
        outbound: &mut Outbound,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Option<Sent> {
        let failed = self.outcome.as_ref().is_some_and(|outcome| !outcome.status.is_ok());
        if failed && !self.method.server_streaming {
            // The call failed after it had written its only message.
            outbound.discard();
        }
        if !outbound.wants_headers() {
            let no_metadata = outbound.metadata.is_empty();
            if let Some(outcome) = self.outcome.take_if(|_| failed && no_metadata) {
                return Some(self.send_trailers_only(outcome, limit));
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
                return Some(self.send_trailers_only(outcome, limit));
            }
        };
        let Stage::Headers(respond) = &mut self.stage else { return None };
        match respond.send_response(headers, false) {
            Ok(stream) => {
                self.stage = Stage::Body(stream);
                None
            }
            Err(error) => {
                outbound.discard();
                Some(Sent::StreamLost(match respond.poll_reset(cx) {
                    Poll::Ready(Ok(reason)) => self.reset_by(reason),
                    _ => status_of(&error),
                }))
            }
        }
    }

    fn send_trailers_only(&mut self, outcome: Outcome, limit: usize) -> Sent {
        if let Stage::Headers(respond) = &mut self.stage {
            let headers = trailers_only(outcome, self.accepted, limit);
            let _ = respond.send_response(headers, true);
        }
        Sent::Status
    }

    /// Ready with a status when the client has reset the stream or the stream is lost.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let reset = match &mut self.stage {
            Stage::Headers(respond) => respond.poll_reset(cx),
            Stage::Body(stream) => stream.poll_reset(cx),
            Stage::Lingering(_) | Stage::Closed => Poll::Pending,
        };
        reset.map(|reset| match reset {
            Ok(reason) => self.reset_by(reason),
            Err(error) => status_of(&error),
        })
    }

    fn reset_by(&mut self, reason: Reason) -> Status {
        self.reset = true;
        status_of_reset(reason)
    }

    fn log(&self, over: &OverLimit) {
        tracing::warn!(path = self.method.path, "call failed: {over}");
    }
}

fn send_messages(
    stream: &mut SendStream<Bytes>,
    outbound: &mut Outbound,
    context: &ConnectionContext,
    cx: &mut Context<'_>,
) {
    while outbound.buffered() > 0 {
        // Reserve no more than is needed: unused reserved window would starve other streams.
        stream.reserve_capacity(outbound.buffered());
        let room = context.send_buffer.room();
        let count = stream.capacity().min(outbound.buffered()).min(room);
        if count > 0 {
            context.send_buffer.give(count);
            if stream.send_data(outbound.split(count), false).is_err() {
                outbound.discard();
            }
            continue;
        }
        if room == 0 {
            context.send_buffer.wait(cx);
            return;
        }
        match stream.poll_capacity(cx) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => outbound.discard(),
            Poll::Pending => return,
        }
    }
}

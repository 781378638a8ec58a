use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::HeaderMap;
use http::{Response, StatusCode};

use super::send_buffer::SendBufferLimit;
use crate::grpc::server::transport::{Stream, StreamError};
use crate::http2::error_code::ErrorCode;

/// A stream of the h2 crate.
pub(crate) struct H2Stream {
    request: RecvStream,
    response: Sending,
    send_buffer: Arc<SendBufferLimit>,
}

enum Sending {
    /// The headers have not been sent.
    Headers(SendResponse<Bytes>),
    /// The headers have been sent.
    Body(SendStream<Bytes>),
}

impl H2Stream {
    pub(super) fn new(
        request: RecvStream,
        respond: SendResponse<Bytes>,
        send_buffer: Arc<SendBufferLimit>,
    ) -> Self {
        Self { request, response: Sending::Headers(respond), send_buffer }
    }

    /// The body, once the headers have been sent.
    fn body(&mut self) -> Result<&mut SendStream<Bytes>, StreamError> {
        match &mut self.response {
            Sending::Body(body) => Ok(body),
            Sending::Headers(_) => Err(StreamError::ConnectionLost),
        }
    }
}

impl Stream for H2Stream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.request.poll_data(cx).map_err(StreamError::from)
    }

    fn release(&mut self, bytes: usize) {
        // Fails only if the stream is gone, which poll_data reports.
        let _ = self.request.flow_control().release_capacity(bytes);
    }

    fn send_headers(
        &mut self,
        status: StatusCode,
        headers: Cow<'_, HeaderMap>,
        end: bool,
    ) -> Result<(), StreamError> {
        let Sending::Headers(respond) = &mut self.response else { return Ok(()) };
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers.into_owned();
        match respond.send_response(response, end) {
            Ok(body) => {
                self.response = Sending::Body(body);
                Ok(())
            }
            Err(error) => match self.poll_reset(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(reset @ StreamError::Reset(_)) => Err(reset),
                _ => Err(error.into()),
            },
        }
    }

    fn poll_capacity(
        &mut self,
        wanted: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, StreamError>> {
        let Sending::Body(body) = &mut self.response else {
            return Poll::Ready(Err(StreamError::ConnectionLost));
        };
        // Reserve no more than is needed: unused reserved window would starve other streams.
        body.reserve_capacity(wanted);
        loop {
            let room = self.send_buffer.room();
            let count = body.capacity().min(wanted).min(room);
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            if room == 0 {
                self.send_buffer.wait(cx);
                return Poll::Pending;
            }
            match ready!(body.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                None => return Poll::Ready(Err(StreamError::ConnectionLost)),
            }
        }
    }

    fn send_data(&mut self, data: Bytes, end: bool) -> Result<(), StreamError> {
        self.send_buffer.give(data.len());
        self.body()?.send_data(data, end).map_err(StreamError::from)
    }

    fn send_trailers(&mut self, trailers: Cow<'_, HeaderMap>) {
        if let Ok(body) = self.body() {
            // Fails only if the stream is gone.
            let _ = body.send_trailers(trailers.into_owned());
        }
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let reset = match &mut self.response {
            Sending::Headers(respond) => respond.poll_reset(cx),
            Sending::Body(body) => body.poll_reset(cx),
        };
        reset.map(|reset| match reset {
            Ok(reason) => StreamError::Reset(ErrorCode(reason.into())),
            Err(error) => error.into(),
        })
    }

    fn reset(&mut self, code: ErrorCode) {
        let reason = Reason::from(code.0);
        match &mut self.response {
            Sending::Headers(respond) => respond.send_reset(reason),
            Sending::Body(body) => body.send_reset(reason),
        }
    }
}

impl From<h2::Error> for StreamError {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_reset() && error.is_remote() => {
                Self::Reset(ErrorCode(reason.into()))
            }
            Some(_) if error.is_library() => Self::Protocol(error.to_string().into()),
            _ => Self::ConnectionLost,
        }
    }
}

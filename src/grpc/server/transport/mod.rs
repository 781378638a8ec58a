//! The seam between a connection and its implementation of HTTP/2. A [`Transport`] is the
//! connection without its calls. A [`Stream`] is one request with its response.
//!
//! ```text
//!  connection::turns::Connection<T>        --- Transport --->  H2, Native
//!  connection::server_call::ServerCall<S>  --- Stream ------>  H2Stream, NativeStream
//! ```
//!
//! The other modules are parts that each transport over a socket needs.

pub(crate) mod closing;
pub(crate) mod first_bytes;
mod h2;
mod native;
pub(crate) mod read_gate;
pub(crate) mod write_buffer;

use std::borrow::Cow;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HeaderMap;
use http::{StatusCode, request};
use tokio::time::Instant;

pub(crate) use self::h2::H2;
pub(crate) use self::native::Native;
use crate::grpc::metadata::Metadata;
use crate::grpc::server::connection::context::ConnectionContext;
use crate::grpc::server::policy::enforcement::GoAway;
use crate::http2::error_code::ErrorCode;

/// The connection of one client, without its calls.
///
/// Its methods queue frames. Only [`write`](Self::write) and [`close`](Self::close) have to write
/// them, so that the frames of several turns share a system call.
pub(crate) trait Transport: Pings + Sized + Unpin {
    /// The socket.
    type Io;
    type Stream: Stream;

    /// Makes the handshake. Returns `None` if it has failed. The failure is then logged, and the
    /// connection is closed.
    fn handshake(io: Self::Io, context: &ConnectionContext) -> impl Future<Output = Option<Self>>;

    /// Reads and handles frames, and queues those of the streams. Ready with the next request, or
    /// with `None` once the connection is closed.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Head, Self::Stream)>>;

    /// Writes the queued frames, as far as the client accepts them. Wakes the task when it can
    /// write more.
    fn write(&mut self, cx: &mut Context<'_>);

    /// Starts a turn of the enforcement policy. `calls` are open, and `refused` compressed messages
    /// were refused since the last turn. Returns the time when the client last sent anything.
    ///
    /// # Errors
    /// The client has violated the policy.
    fn check_policy(&mut self, calls: usize, refused: u32) -> Result<Instant, GoAway>;

    /// Whether the client has broken the protocol. If so, a GOAWAY waits to be written by
    /// [`close`](Self::close).
    fn has_failed(&self) -> bool {
        false
    }

    /// Announces the end of the connection. The client may still open streams until it has
    /// acknowledged that (RFC 9113, 6.8).
    fn graceful_shutdown(&mut self);

    /// Queues a last GOAWAY frame. The connection must be closed or dropped next.
    fn go_away(&mut self, code: ErrorCode, debug: &'static str);

    /// Writes the queued frames and closes the connection, so that the client can read them.
    fn close(self) -> impl Future<Output = ()>;
}

/// The head of a request.
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for each call")]
pub(crate) enum Head {
    Own(request::Parts),
    /// Other calls of the connection may have it in common.
    Shared(Arc<request::Parts>),
}

impl Deref for Head {
    type Target = request::Parts;

    fn deref(&self) -> &request::Parts {
        match self {
            Self::Own(parts) => parts,
            Self::Shared(parts) => parts,
        }
    }
}

/// Its headers.
impl From<Head> for Metadata {
    fn from(head: Head) -> Self {
        match head {
            Head::Own(parts) => parts.headers.into(),
            Head::Shared(parts) => Self::of_shared(parts),
        }
    }
}

/// The PING frames of keepalive.
pub(crate) trait Pings {
    /// Queues a PING. Returns false if it cannot, because one is in flight or the connection is
    /// closing.
    fn ping(&mut self) -> bool;

    /// Ready when the client has acknowledged the PING.
    fn poll_pong(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// One request and its response. Dropping it resets the stream if it is still open: with NO_ERROR
/// after a complete response, else with CANCEL.
pub(crate) trait Stream: Unpin {
    /// Ready with the next bytes of the request, or with `None` at its end.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>>;

    /// Returns the window of this many received bytes to the client.
    fn release(&mut self, bytes: usize);

    /// Sends the headers, which also end the response if `end` is true.
    fn send_headers(
        &mut self,
        status: StatusCode,
        headers: Cow<'_, HeaderMap>,
        end: bool,
    ) -> Result<(), StreamError>;

    /// Ready with the number of bytes that can be sent now: at least one, at most `wanted`.
    fn poll_capacity(
        &mut self,
        wanted: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, StreamError>>;

    /// Sends a part of the body, which also ends the response if `end` is true. The transport
    /// buffers bytes beyond the capacity.
    fn send_data(&mut self, data: Bytes, end: bool) -> Result<(), StreamError>;

    /// Sends the trailers, which end the response.
    fn send_trailers(&mut self, trailers: Cow<'_, HeaderMap>);

    /// Ready when the client has reset the stream, or the stream is lost.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<StreamError>;

    fn reset(&mut self, code: ErrorCode);
}

/// Why a stream has ended early.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// The client has sent RST_STREAM.
    Reset(ErrorCode),
    /// The client has broken the protocol, as this text explains.
    Protocol(Box<str>),
    ConnectionLost,
}

//! HTTP/2 by the h2 crate. Only this folder names it.

mod frame_observer;
mod send_buffer;
mod socket;
mod stream;

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Ping, PingPong, server};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use self::send_buffer::SendBufferLimit;
use self::socket::Socket;
use self::stream::H2Stream;
use super::{Head, Pings, Transport};
use crate::grpc::call::Peer;
use crate::grpc::server::connection::context::ConnectionContext;
use crate::grpc::server::policy::enforcement::GoAway;
use crate::grpc::server::settings::Settings;
use crate::http2::error_code::ErrorCode;

/// Response bytes that h2 may hold per stream while the socket is busy. Slow readers then cost
/// little memory; h2's default is 400 KiB.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that h2 remembers after it has reset them, and for how long. Frames that a client still
/// sends on them are ignored. Frames on older streams get another RST_STREAM. A stream takes 0.5
/// KiB. The time covers frames in flight, and allows 400 resets a second.
const REMEMBERED_RESETS: usize = 2000;
const REMEMBERED_FOR: Duration = Duration::from_secs(5);

/// A connection of the h2 crate.
pub(crate) struct H2<T> {
    connection: server::Connection<Socket<T>, Bytes>,
    socket: Socket<T>,
    ping_pong: Option<PingPong>,
    send_buffer: Arc<SendBufferLimit>,
    /// For the log.
    peer: Arc<Peer>,
}

impl<T> Pings for H2<T> {
    fn ping(&mut self) -> bool {
        self.ping_pong.as_mut().is_some_and(|ping_pong| ping_pong.send_ping(Ping::opaque()).is_ok())
    }

    fn poll_pong(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.ping_pong {
            Some(ping_pong) => ping_pong.poll_pong(cx).map(|_| ()),
            None => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for H2<T> {
    type Io = T;
    type Stream = H2Stream;

    async fn handshake(io: T, context: &ConnectionContext) -> Option<Self> {
        let peer = context.peer.clone();
        let socket = Socket::new(
            io,
            context.is_over_tls(),
            context.enforcement_policy(),
            context.meter.clone(),
        );
        match builder(&context.settings).handshake(socket.clone()).await {
            Ok(mut connection) => {
                socket.defer();
                let ping_pong = connection.ping_pong();
                let send_buffer = Arc::default();
                Some(Self { connection, socket, ping_pong, send_buffer, peer })
            }
            Err(error) => {
                match socket.other_protocol() {
                    Some(other_protocol) => other_protocol.log(&peer),
                    None => tracing::debug!(%peer, %error, "HTTP/2 handshake failed"),
                }
                socket.close().await;
                None
            }
        }
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Head, H2Stream)>> {
        let accepted = self.connection.poll_accept(cx);
        // h2 writes each time that it is polled, until the socket is blocked.
        if !self.send_buffer.is_empty() && !self.socket.is_blocked() {
            self.send_buffer.written();
        }
        Poll::Ready(match ready!(accepted) {
            Some(Ok((request, respond))) => {
                let (parts, body) = request.into_parts();
                Some((Head::Own(parts), H2Stream::new(body, respond, self.send_buffer.clone())))
            }
            Some(Err(error)) => {
                tracing::debug!(peer = %self.peer, %error, "connection failed");
                None
            }
            None => None,
        })
    }

    fn write(&mut self, cx: &mut Context<'_>) {
        // Ignore errors: the next read of h2 fails too and closes the connection.
        if self.socket.poll_write_out(cx).is_ready() && !self.send_buffer.is_empty() {
            // The socket was blocked before, so h2 may have more to write.
            cx.waker().wake_by_ref();
        }
    }

    fn check_policy(&mut self, calls: usize, refused: u32) -> Result<Instant, GoAway> {
        self.socket.check_policy(calls, refused)
    }

    fn graceful_shutdown(&mut self) {
        self.connection.graceful_shutdown();
    }

    fn go_away(&mut self, code: ErrorCode, debug: &'static str) {
        self.socket.go_away(code, debug);
    }

    async fn close(self) {
        let Self { connection, socket, .. } = self;
        drop(connection);
        socket.close().await;
    }
}

fn builder(settings: &Settings) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(settings.max_concurrent_streams)
        .max_header_list_size(settings.max_header_list_size)
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_send_buffer_size(SEND_BUFFER)
        // A burst of cancellations is not an attack, unless it exceeds the number of streams.
        .max_pending_accept_reset_streams(settings.max_concurrent_streams as usize)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBERED_FOR)
        // These two limits count over the life of a connection, so honest clients reach them.
        // `policy` limits the same events by rate.
        .data_frame_budget(usize::MAX)
        .max_local_error_reset_streams(None);
    builder
}

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::frame_observer::FrameObserver;
use crate::grpc::server::accept::other_protocol::OtherProtocol;
use crate::grpc::server::policy::enforcement::{EnforcementPolicy, GoAway};
use crate::grpc::server::stats::Meter;
use crate::grpc::server::transport::closing::ClosingSocket;
use crate::grpc::server::transport::first_bytes::FirstBytes;
use crate::grpc::server::transport::read_gate::ReadGate;
use crate::grpc::server::transport::write_buffer::WriteBuffer;
use crate::http2::error_code::ErrorCode;
use crate::http2::frame::put_go_away;

/// A socket that buffers writes until [`poll_write_out`](Self::poll_write_out), and shows the
/// frames of both directions to the enforcement policy.
///
/// h2 flushes at each poll, and is polled several times per turn. Buffering saves a system call for
/// each of these flushes. h2 owns its socket, so the connection shares it through this handle. The
/// lock is never contended.
pub(super) struct Socket<T>(Arc<Mutex<Shared<T>>>);

struct Shared<T> {
    inner: T,
    unwritten: WriteBuffer,
    deferred: bool,
    first_bytes: FirstBytes,
    /// Parses the client's frames.
    client: FrameObserver,
    /// Parses the server's frames.
    server: FrameObserver,
    policy: EnforcementPolicy,
    read_gate: ReadGate,
    meter: Arc<Meter>,
}

impl<T> Clone for Socket<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket<T> {
    /// `agreed` is whether ALPN has already negotiated HTTP/2.
    pub(super) fn new(
        inner: T,
        agreed: bool,
        policy: EnforcementPolicy,
        meter: Arc<Meter>,
    ) -> Self {
        let shared = Shared {
            inner,
            unwritten: WriteBuffer::default(),
            deferred: false,
            first_bytes: FirstBytes::new(agreed),
            client: FrameObserver::of_client(),
            server: FrameObserver::of_server(),
            policy,
            read_gate: ReadGate::default(),
            meter,
        };
        Self(Arc::new(Mutex::new(shared)))
    }

    /// From now on, `poll_flush` writes nothing; [`poll_write_out`](Self::poll_write_out) does.
    pub(super) fn defer(&self) {
        self.lock().deferred = true;
    }

    /// The client's protocol if it is a known one other than HTTP/2. Its answer is buffered.
    pub(super) fn other_protocol(&self) -> Option<OtherProtocol> {
        self.lock().first_bytes.other_protocol()
    }

    /// Writes the buffered bytes. Pending while the peer does not accept them.
    pub(super) fn poll_write_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_write_out(cx)
    }

    /// Whether the peer does not accept the written bytes. If false, h2 has written everything that
    /// it had.
    pub(super) fn is_blocked(&self) -> bool {
        self.lock().unwritten.is_blocked()
    }

    /// Starts a turn of the policy, as [`Transport::check_policy`] defines.
    ///
    /// [`Transport::check_policy`]: crate::grpc::server::transport::Transport::check_policy
    pub(super) fn check_policy(&self, calls: usize, refused: u32) -> Result<Instant, GoAway> {
        self.lock().policy.begin_turn(calls, refused)
    }

    /// Appends a GOAWAY to the buffered bytes. h2 offers no debug data and no control over the
    /// moment. h2 does not see this frame, so the connection must be dropped next.
    pub(super) fn go_away(&self, code: ErrorCode, debug: &str) {
        let mut shared = self.lock();
        let mut frame = Vec::new();
        put_go_away(&mut frame, shared.policy.last_stream(), code, debug);
        shared.unwritten.pending().extend_from_slice(&frame);
    }

    /// Writes the buffered bytes and closes the socket. h2's connection must be dropped before.
    pub(super) async fn close(self) {
        if let Some(shared) = Arc::into_inner(self.0) {
            let shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
            let Shared { inner: io, unwritten, meter, .. } = shared;
            ClosingSocket { io, unwritten, meter }.linger().await;
        }
    }
}

impl<T> Socket<T> {
    fn lock(&self) -> MutexGuard<'_, Shared<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncWrite + Unpin> Shared<T> {
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unwritten.poll_write(&mut self.inner, &self.meter, cx)
    }
}

/// Reads for h2. The policy checks the bytes first, so h2 never handles input of a connection that
/// is closing.
impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let shared = &mut *self.lock();
        ready!(shared.read_gate.poll(&mut shared.policy, cx))?;
        if shared.first_bytes.poll_timed_out(cx) {
            // A write error also fails the read.
            let _ = shared.poll_write_out(cx)?;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut shared.inner).poll_read(cx, buf))?;
        let received = &buf.filled()[before..];
        shared.meter.received(received.len());
        if let Some(other_protocol) = shared.first_bytes.received(received) {
            // Replaces the SETTINGS that h2 has written.
            let pending = shared.unwritten.pending();
            pending.clear();
            pending.extend_from_slice(other_protocol.answer());
            buf.set_filled(before);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let Shared { client, policy, .. } = shared;
        policy.input_arrived(Instant::now());
        client.read(received, |frame| policy.received(frame));
        if policy.go_away().is_some() {
            buf.set_filled(before);
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let shared = &mut *self.lock();
        if shared.unwritten.is_full() {
            ready!(shared.poll_write_out(cx))?;
        }
        let Shared { unwritten, server, policy, .. } = shared;
        let pending = unwritten.pending();
        for buf in bufs {
            server.read(buf, |frame| policy.sent(frame));
            pending.extend_from_slice(buf);
        }
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        if shared.deferred || shared.first_bytes.are_awaited() {
            return Poll::Ready(Ok(()));
        }
        shared.poll_write_out(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        ready!(shared.poll_write_out(cx))?;
        Pin::new(&mut shared.inner).poll_shutdown(cx)
    }
}

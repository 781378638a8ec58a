use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::grpc::server::accept::other_protocol::OtherProtocol;
use crate::grpc::server::policy::enforcement::EnforcementPolicy;
use crate::grpc::server::scheduling::timer::{Timer, timer_after, timer_at};
use crate::grpc::server::stats::Meter;

/// Bytes that may wait to be written: four full DATA frames. More bytes are worth a system call.
const PENDING_LIMIT: usize = 64 * 1024;

/// The type of a GOAWAY frame (RFC 9113, 6.8).
const GOAWAY: u8 = 0x7;

/// How long the server waits for the client's first bytes before it sends its SETTINGS. All HTTP/2
/// clients send at once. A client that waits for the server, as HTTP/2 permits, waits this long.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_millis(100);

/// An idle connection does not keep a larger buffer than this.
const KEPT_CAPACITY: usize = 4 * 1024;

/// A socket that buffers writes until [`poll_drain`](Self::poll_drain).
///
/// h2 flushes at each poll, and is polled several times per turn. Buffering saves a system call for
/// each of these flushes. h2 owns its socket, so the connection shares it through this handle. The
/// lock is never contended.
pub(crate) struct Socket<T>(Arc<Mutex<Shared<T>>>);

struct Shared<T> {
    inner: T,
    pending: BytesMut,
    /// The peer does not accept the pending bytes.
    blocked: bool,
    deferred: bool,
    /// Set until the first bytes are read, or time has passed. Until then nothing is written,
    /// because the client may use another protocol.
    first_bytes: Option<Timer>,
    other_protocol: Option<OtherProtocol>,
    policy: EnforcementPolicy,
    /// Set while reading is paused.
    pause: Option<Timer>,
    meter: Arc<Meter>,
}

impl<T> Clone for Socket<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket<T> {
    /// `agreed` is whether ALPN has already negotiated HTTP/2.
    pub(crate) fn new(
        inner: T,
        agreed: bool,
        policy: EnforcementPolicy,
        meter: Arc<Meter>,
    ) -> Self {
        let pending = BytesMut::new();
        let shared = Shared {
            inner,
            pending,
            blocked: false,
            deferred: false,
            first_bytes: (!agreed).then(|| timer_after(FIRST_BYTES_TIMEOUT)),
            other_protocol: None,
            policy,
            pause: None,
            meter,
        };
        Self(Arc::new(Mutex::new(shared)))
    }

    /// From now on, `poll_flush` writes nothing; [`poll_drain`](Self::poll_drain) does.
    pub(crate) fn defer(&self) {
        self.lock().deferred = true;
    }

    /// The client's protocol if it is a known one other than HTTP/2. The client has been answered.
    pub(crate) fn other_protocol(&self) -> Option<OtherProtocol> {
        self.lock().other_protocol
    }

    /// Writes the buffered bytes. Pending while the peer does not accept them.
    pub(crate) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_drain(cx)
    }

    /// Whether the peer does not accept the written bytes. If false, h2 has written everything that
    /// it had.
    pub(crate) fn is_blocked(&self) -> bool {
        self.lock().blocked
    }

    /// Accesses the policy that observes the frames.
    pub(crate) fn policy<R>(&self, f: impl FnOnce(&mut EnforcementPolicy) -> R) -> R {
        f(&mut self.lock().policy)
    }

    /// Reads and discards input. Returns the number of bytes, zero at the end of input.
    pub(crate) fn poll_discard(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let shared = &mut *self.lock();
        buf.clear();
        ready!(Pin::new(&mut shared.inner).poll_read(cx, buf))?;
        shared.meter.received(buf.filled().len());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Appends a GOAWAY to the pending bytes. h2 offers no debug data and no control over the
    /// moment. h2 does not see this frame, so the connection must be dropped next.
    pub(crate) fn go_away(&self, reason: Reason, debug: &str) {
        let mut shared = self.lock();
        let last_stream = shared.policy.last_stream();
        let pending = &mut shared.pending;
        // RFC 9113, 6.8.
        pending.put_uint(8 + debug.len() as u64, 3);
        pending.put_slice(&[GOAWAY, 0]);
        pending.put_u32(0);
        pending.put_u32(last_stream);
        pending.put_u32(reason.into());
        pending.put_slice(debug.as_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, Shared<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncWrite + Unpin> Shared<T> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let drained = self.poll_drain_all(cx);
        self.blocked = drained.is_pending();
        drained
    }

    fn poll_drain_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.meter.sent(written);
            self.pending.advance(written);
        }
        if self.pending.capacity() > KEPT_CAPACITY {
            self.pending = BytesMut::new();
        } else {
            self.pending.clear();
        }
        // A plain socket has no buffer, but TLS may hold records that the socket has not accepted.
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Makes room for more bytes, by writing if necessary.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pending.len() < PENDING_LIMIT { Poll::Ready(Ok(())) } else { self.poll_drain(cx) }
    }
}

impl<T> Shared<T> {
    /// Ready when h2 may read more: the connection is not closing, reading is not paused, and the
    /// turn has work left.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.policy.go_away().is_some() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.policy.turn_is_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while let Some(until) = self.policy.paused_until() {
            let pause = self.pause.get_or_insert_with(|| timer_at(until));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(Ok(()))
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
        let shared = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ready!(shared.poll_readable(cx))?;
        let before = buf.filled().len();
        if let Some(first_bytes) = &mut shared.first_bytes
            && first_bytes.as_mut().poll(cx).is_ready()
        {
            shared.first_bytes = None;
            // A write error also fails the read.
            let _ = shared.poll_drain(cx)?;
        }
        ready!(Pin::new(&mut shared.inner).poll_read(cx, buf))?;
        let received = &buf.filled()[before..];
        shared.meter.received(received.len());
        if shared.first_bytes.take().is_some()
            && let Some(other_protocol) = OtherProtocol::detect(received)
        {
            shared.other_protocol = Some(other_protocol);
            // Replaces the SETTINGS that h2 has written.
            shared.pending.clear();
            shared.pending.extend_from_slice(other_protocol.answer());
            buf.set_filled(before);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        shared.policy.received(received);
        if shared.policy.go_away().is_some() {
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
        let mut shared = self.lock();
        ready!(shared.poll_room(cx))?;
        let Shared { pending, policy, .. } = &mut *shared;
        for buf in bufs {
            policy.sent(buf);
            pending.extend_from_slice(buf);
        }
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        if shared.deferred || shared.first_bytes.is_some() {
            return Poll::Ready(Ok(()));
        }
        shared.poll_drain(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        ready!(shared.poll_drain(cx))?;
        Pin::new(&mut shared.inner).poll_shutdown(cx)
    }
}

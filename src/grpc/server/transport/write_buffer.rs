use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use crate::grpc::server::stats::Meter;

/// Bytes that may wait to be written: four full DATA frames. More bytes are worth a system call.
const LIMIT: usize = 64 * 1024;

/// An idle connection does not keep a larger buffer than this.
const KEPT_CAPACITY: usize = 4 * 1024;

/// The most slices of one system call: enough for eight messages with their frame headers.
const SLICES: usize = 16;

/// Frames that wait to be written to the socket.
#[derive(Default)]
pub(crate) struct WriteBuffer {
    pending: BytesMut,
    /// Whether the client does not accept the pending bytes.
    blocked: bool,
}

impl WriteBuffer {
    /// The pending bytes, to append to them.
    pub(crate) fn pending(&mut self) -> &mut BytesMut {
        &mut self.pending
    }

    /// Whether the pending bytes should be written before others are appended.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= LIMIT
    }

    /// Whether the last write has left bytes, because the client does not accept them.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Writes the pending bytes. Ready when all of them are written.
    pub(crate) fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        meter: &Meter,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let written = self.poll_write_all(io, meter, cx);
        self.blocked = written.is_pending();
        written
    }

    fn poll_write_all<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        meter: &Meter,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let written = poll_write(io, &mut self.pending, meter, cx);
        if self.pending.is_empty() {
            if self.pending.capacity() > KEPT_CAPACITY {
                self.pending = BytesMut::new();
            } else {
                self.pending.clear();
            }
        }
        written
    }
}

/// Writes `bytes`, as many as the client accepts, and removes them. Ready when all of them are
/// written.
pub(super) fn poll_write<T: AsyncWrite + Unpin>(
    io: &mut T,
    bytes: &mut impl Buf,
    meter: &Meter,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while bytes.has_remaining() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = bytes.chunks_vectored(&mut slices);
        match ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices[..count]))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => {
                meter.sent(written);
                bytes.advance(written);
            }
        }
    }
    // A plain socket has no buffer, but TLS may hold records that the socket has not accepted.
    Pin::new(io).poll_flush(cx)
}

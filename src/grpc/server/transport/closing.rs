use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::write_buffer::WriteBuffer;
use crate::grpc::server::stats::Meter;

/// Time to write the last frames of a connection.
pub(crate) const LAST_FRAMES: Duration = Duration::from_secs(1);

/// Input that is discarded while a connection closes: per read, and in total. This bounds the cost
/// of a client that continues to send.
const DISCARDED_AT_ONCE: usize = 64 * 1024;
const DISCARDED: usize = 1024 * 1024;

/// A socket that is about to be closed, with its unwritten frames.
pub(crate) struct ClosingSocket<T> {
    pub(crate) io: T,
    pub(crate) unwritten: WriteBuffer,
    pub(crate) meter: Arc<Meter>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> ClosingSocket<T> {
    /// Closes the socket so that the peer can read the last frames. The kernel resets a socket that
    /// is closed with unread input, and the reset discards data in flight.
    pub(crate) async fn linger(mut self) {
        // An error leaves nothing to do, because the socket is closed next.
        let _ = timeout(LAST_FRAMES, self.write_and_discard()).await;
    }

    async fn write_and_discard(&mut self) -> io::Result<()> {
        let Self { io, unwritten, meter } = self;
        poll_fn(|cx| unwritten.poll_write(io, meter, cx)).await?;
        io.shutdown().await?;
        let mut room = vec![0; DISCARDED_AT_ONCE];
        let mut discarded = 0;
        while discarded < DISCARDED {
            let count = io.read(&mut room).await?;
            if count == 0 {
                break;
            }
            meter.received(count);
            discarded += count;
        }
        Ok(())
    }
}

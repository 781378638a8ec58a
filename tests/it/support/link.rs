//! A link with a delay.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf};
use tokio::io::{WriteHalf, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Returns the far end of a link to `io`. Bytes take `delay` each way. The link holds as many as
/// are sent in that time.
pub fn delayed<T>(io: T, delay: Duration) -> DuplexStream
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (far, near) = tokio::io::duplex(64 * 1024);
    let ((from_far, to_far), (from_io, to_io)) = (split(near), split(io));
    tokio::spawn(carry(from_far, to_io, delay));
    tokio::spawn(carry(from_io, to_far, delay));
    far
}

/// Carries bytes one way until either end is closed.
async fn carry<A, B>(mut from: ReadHalf<A>, mut to: WriteHalf<B>, delay: Duration)
where
    A: AsyncRead + Send + 'static,
    B: AsyncWrite + Send + 'static,
{
    let (sender, mut in_flight) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let deliver = async move {
        while let Some((arrival, bytes)) = in_flight.recv().await {
            sleep_until(arrival).await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    };
    let take = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 || sender.send((Instant::now() + delay, buffer[..count].into())).is_err()
            {
                return io::Result::Ok(());
            }
        }
    };
    // The end of a test closes the ends in any order.
    let _ = tokio::join!(deliver, take);
}

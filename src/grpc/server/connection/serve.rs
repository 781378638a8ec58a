use std::future::{Future, poll_fn, ready};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, timeout};

use super::context::ConnectionContext;
use super::socket::Socket;
use super::turns::{Connection, Ended};
use crate::grpc::call::Peer;
use crate::grpc::server::accept::proxy_protocol;
use crate::grpc::server::drain::Drain;
use crate::grpc::server::policy::enforcement::EnforcementPolicy;
use crate::grpc::server::scheduling::timer::{later, timer_at};
use crate::grpc::status::Status;

/// Time to write the last frames after the drain timeout.
pub(crate) const LAST_FRAMES: Duration = Duration::from_secs(1);

/// Serves one connection until it closes or the drain ends.
pub(crate) async fn serve<T>(mut io: T, context: ConnectionContext, drain: Drain)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (peer, proxied) = (context.peer.clone(), context.proxied);
    #[cfg(feature = "tls")]
    if let Some(tls) = context.tls.clone() {
        let handshakes = context.handshakes.clone();
        let secured = async move {
            let peer =
                if proxied { proxy_protocol::client_peer(&mut io, peer).await? } else { peer };
            if !handshakes.admit(&peer) {
                return None;
            }
            handshakes.work(tls.accept(io, peer)).await
        };
        // On the heap, so that connections without TLS need no memory for it.
        return Box::pin(serve_over(secured, context, drain)).await;
    }
    if proxied {
        let plain =
            async move { proxy_protocol::client_peer(&mut io, peer).await.map(|peer| (io, peer)) };
        return Box::pin(serve_over(plain, context, drain)).await;
    }
    serve_over(ready(Some((io, peer))), context, drain).await;
}

/// Serves the connection and peer that `transport` returns. The transport and the HTTP/2 handshake
/// share the handshake timeout.
async fn serve_over<T>(
    transport: impl Future<Output = Option<(T, Arc<Peer>)>>,
    mut context: ConnectionContext,
    mut drain: Drain,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let peer = context.peer.clone();
    let held = drain.clone();
    // In a set with its own waker, this future is polled only when the drain starts. Polled
    // directly, it would lock the watch channel at each poll, and all workers share that lock.
    let mut drain_started: FuturesUnordered<_> =
        [Box::pin(unconstrained(drain.started()))].into_iter().collect();
    let time = context.settings.handshake_timeout;
    // On the heap, because an established connection does not need this memory.
    let handshake = Box::pin(async move {
        let (io, peer) = transport.await?;
        context.peer = peer;
        context.drain = Some(held);
        let is_offender = context.offenders.contain(&context.peer);
        let policy = EnforcementPolicy::new(
            context.settings.pings,
            context.shared_state.clone(),
            is_offender,
        );
        let socket = Socket::new(io, context.is_over_tls(), policy, context.meter.clone());
        let handshake = context.settings.h2().handshake::<_, Bytes>(socket.clone());
        match handshake.await {
            Ok(h2) => {
                socket.defer();
                Some(Connection::new(h2, socket, Arc::new(context)))
            }
            Err(error) => {
                match socket.other_protocol() {
                    Some(other_protocol) => other_protocol.log(&context.peer),
                    None => {
                        tracing::debug!(peer = %context.peer, %error, "HTTP/2 handshake failed")
                    }
                }
                linger(socket).await;
                None
            }
        }
    });
    let mut connection = tokio::select! {
        // A connection in its handshake has no calls and must not delay a shutdown.
        _ = drain_started.next() => return,
        result = timeout(time, handshake) => match result {
            Ok(Some(connection)) => connection,
            Ok(None) => return,
            Err(_) => return tracing::debug!(%peer, "handshake timed out"),
        },
    };
    let mut deadline: Option<Instant> = None;
    loop {
        let out_of_time = OptionFuture::from(deadline.map(timer_at));
        let next = tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.poll(cx)) => match ended {
                Ended::Closed => return,
                Ended::GoAway => {
                    // Lingering writes the pending responses first, then the GOAWAY.
                    let socket = connection.socket();
                    drop(connection);
                    return linger(socket).await;
                }
                // Without a grace, open calls have no time limit.
                Ended::Retired => connection.grace().map(later),
            },
            Some(drained) = drain_started.next() => Some(drained),
            Some(()) = out_of_time => break,
        };
        connection.drain();
        deadline = [deadline, next].into_iter().flatten().min();
    }
    let calls = connection.open_calls();
    tracing::debug!(%peer, calls, "drain or grace time has passed, ending open calls");
    poll_fn(|cx| {
        connection.stop_calls(&Status::unavailable("the connection is shutting down"), cx);
        Poll::Ready(())
    })
    .await;
    // Only a peer that does not read, or does not answer the PING of the shutdown, uses all of this
    // time.
    let _ = timeout(LAST_FRAMES, poll_fn(|cx| connection.poll(cx))).await;
}

/// Input that is discarded while a connection closes: per read, and in total. This bounds the cost
/// of a client that continues to send.
const DISCARDED_AT_ONCE: usize = 64 * 1024;
const DISCARDED: usize = 1024 * 1024;

/// Closes the socket so that the peer can read the last frames. The kernel resets a socket that is
/// closed with unread input, and the reset discards data in flight.
async fn linger<T: AsyncRead + AsyncWrite + Unpin>(mut socket: Socket<T>) {
    let rest = async {
        socket.shutdown().await?;
        let mut room = vec![0; DISCARDED_AT_ONCE];
        let mut discarded = 0;
        while discarded < DISCARDED {
            let mut buf = ReadBuf::new(&mut room);
            match poll_fn(|cx| socket.poll_discard(cx, &mut buf)).await? {
                0 => break,
                count => discarded += count,
            }
        }
        std::io::Result::Ok(())
    };
    let _ = timeout(LAST_FRAMES, rest).await;
}

use std::future::{Future, poll_fn, ready};
use std::sync::Arc;
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, timeout};

use super::context::ConnectionContext;
use super::turns::{Connection, Ended};
use crate::grpc::call::Peer;
use crate::grpc::server::accept::proxy_protocol;
use crate::grpc::server::drain::Drain;
use crate::grpc::server::scheduling::timer::{later, timer_at};
use crate::grpc::server::settings::Http2;
use crate::grpc::server::transport::closing::LAST_FRAMES;
use crate::grpc::server::transport::{H2, Native, Transport};
use crate::grpc::status::Status;

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

/// Serves the socket and peer that `opened` returns.
async fn serve_over<T>(
    opened: impl Future<Output = Option<(T, Arc<Peer>)>>,
    context: ConnectionContext,
    drain: Drain,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    // On the heap, so that a connection needs memory for one transport only.
    match context.settings.http2 {
        Http2::H2 => Box::pin(serve_by::<H2<T>>(opened, context, drain)).await,
        Http2::Native => Box::pin(serve_by::<Native<T>>(opened, context, drain)).await,
    }
}

/// Serves over the transport `T`. Opening the socket and the HTTP/2 handshake share the handshake
/// timeout.
async fn serve_by<T: Transport>(
    opened: impl Future<Output = Option<(T::Io, Arc<Peer>)>>,
    mut context: ConnectionContext,
    mut drain: Drain,
) {
    let peer = context.peer.clone();
    let held = drain.clone();
    // In a set with its own waker, this future is polled only when the drain starts. Polled
    // directly, it would lock the watch channel at each poll, and all workers share that lock.
    let mut drain_started: FuturesUnordered<_> =
        [Box::pin(unconstrained(drain.started()))].into_iter().collect();
    let time = context.settings.handshake_timeout;
    // On the heap, because an established connection does not need this memory.
    let handshake = Box::pin(async move {
        let (io, peer) = opened.await?;
        context.peer = peer;
        context.drain = Some(held);
        let transport = T::handshake(io, &context).await?;
        Some(Connection::new(transport, Arc::new(context)))
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
                    // Closing writes the pending responses first, then the GOAWAY. It is on the heap
                    // so that open connections need no memory for it.
                    return Box::pin(connection.into_transport().close()).await;
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

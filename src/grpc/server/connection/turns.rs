use std::future::{poll_fn, ready};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::coop::{has_budget_remaining, unconstrained};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use crate::grpc::call::Peer;
use crate::grpc::server::accept::proxy_protocol;
use crate::grpc::server::connection::context::ConnectionContext;
use crate::grpc::server::connection::non_grpc::NonGrpcResponse;
use crate::grpc::server::connection::pending_calls::PendingCalls;
use crate::grpc::server::connection::server_call::ServerCall;
use crate::grpc::server::connection::socket::Socket;
use crate::grpc::server::connection::turn_waker::TurnWaker;
use crate::grpc::server::drain::Drain;
use crate::grpc::server::policy::enforcement::EnforcementPolicy;
use crate::grpc::server::policy::lifetime::{Expired, Lifetime};
use crate::grpc::server::scheduling::clock::Clock;
use crate::grpc::server::scheduling::timer::{Timer, later, timer_after, timer_at};
use crate::grpc::status::Status;

/// New calls accepted in one turn before the answers of the first are written.
const ACCEPTED_PER_TURN: usize = 64;

/// Turns in one poll of the task before other connections of the worker get theirs.
const TURNS_PER_POLL: usize = 16;

/// How long the last frames may take to leave once the drain timeout has passed.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a client that has no calls left may take to acknowledge that the connection closes: a
/// round trip to the other side of the world and back, several times.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves one connection until it closes, or until the drain is over.
pub(crate) async fn serve<T>(mut io: T, context: ConnectionContext, drain: Drain)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (peer, proxied) = (context.peer.clone(), context.proxied);
    #[cfg(feature = "tls")]
    if let Some(tls) = context.tls.clone() {
        let handshakes = context.handshakes.clone();
        let secured = async move {
            let peer = if proxied { proxy_protocol::client(&mut io, peer).await? } else { peer };
            if !handshakes.admit(&peer) {
                return None;
            }
            handshakes.work(tls.accept(io, peer)).await
        };
        // On the heap, so that connections without TLS are no larger for it.
        return Box::pin(serve_over(secured, context, drain)).await;
    }
    if proxied {
        let plain =
            async move { proxy_protocol::client(&mut io, peer).await.map(|peer| (io, peer)) };
        return Box::pin(serve_over(plain, context, drain)).await;
    }
    serve_over(ready(Some((io, peer))), context, drain).await;
}

/// Serves on what `transport` gives, in the time for handshakes: the connection, and its peer as it
/// is known by then.
async fn serve_over<T>(
    transport: impl Future<Output = Option<(T, Arc<Peer>)>>,
    mut context: ConnectionContext,
    mut drain: Drain,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let peer = context.peer.clone();
    let held = drain.clone();
    // With a waker of its own it is polled only when it has begun. Polled with the connection, it
    // would take a lock each time that connections of all workers share.
    let mut drain_started: FuturesUnordered<_> =
        [Box::pin(unconstrained(drain.started()))].into_iter().collect();
    let time = context.settings.handshake_timeout;
    // On the heap, since a connection that is served no longer needs the room.
    let handshake = Box::pin(async move {
        let (io, peer) = transport.await?;
        context.peer = peer;
        context.drain = Some(held);
        let policy = EnforcementPolicy::new(context.settings.pings, context.tally.clone());
        let socket = Socket::new(io, context.is_over_tls(), policy, context.meter.clone());
        let handshake = context.settings.h2().handshake::<_, Bytes>(socket.clone());
        match handshake.await {
            Ok(h2) => {
                socket.defer();
                Some(Connection::new(h2, socket, Arc::new(context)))
            }
            Err(error) => {
                match socket.stranger() {
                    Some(stranger) => stranger.log(&context.peer),
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
        // A connection in its handshake has no calls: it must not hold up a shutdown.
        _ = drain_started.next() => return,
        result = timeout(time, handshake) => match result {
            Ok(Some(connection)) => connection,
            Ok(None) => return,
            Err(_) => return tracing::debug!(%peer, "the handshake timed out"),
        },
    };
    let mut deadline: Option<Instant> = None;
    loop {
        let out_of_time = OptionFuture::from(deadline.map(timer_at));
        let next = tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.poll(cx)) => match ended {
                Ended::Closed => return,
                Ended::SentAway => {
                    // A client that floods has answers under way, which come first.
                    let socket = connection.socket.clone();
                    drop(connection);
                    return linger(socket).await;
                }
                // Without a grace the calls that are open have all the time of the world.
                Ended::Retired => connection.lifetime.grace().map(later),
            },
            Some(drained) = drain_started.next() => Some(drained),
            Some(()) = out_of_time => break,
        };
        connection.drain();
        deadline = [deadline, next].into_iter().flatten().min();
    }
    tracing::debug!(%peer, calls = connection.calls.len(), "out of time: ending what is left");
    poll_fn(|cx| {
        connection.stop_calls(&Status::unavailable("the connection is shutting down"), cx);
        Poll::Ready(())
    })
    .await;
    // Only a peer that does not read, or does not answer the shutdown's PING, uses this up.
    let _ = timeout(LAST_WORDS, poll_fn(|cx| connection.poll(cx))).await;
}

/// Input that is discarded while a connection closes, in one read and at all. A client that goes on
/// sending costs no more than that.
const DISCARDED_AT_ONCE: usize = 64 * 1024;
const DISCARDED: usize = 1024 * 1024;

/// Closes in a way that lets the peer read what it was sent: a socket closed with unread input is
/// reset by the kernel, and the reset overtakes and discards what is on its way.
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
    let _ = timeout(LAST_WORDS, rest).await;
}

/// A connection and its calls, all polled by one future.
///
/// One poll is a number of turns. A turn accepts what has arrived (and h2 queues what the turn
/// before has answered), polls each new call once, then the pending calls that were woken. Only
/// after the last turn are the gathered frames written, in as few system calls as possible.
struct Connection<T> {
    h2: h2::server::Connection<Socket<T>, Bytes>,
    socket: Socket<T>,
    context: Arc<ConnectionContext>,
    /// New calls of this turn; empty between turns.
    accepted: Vec<ServerCall>,
    /// Calls that could not answer in their first poll.
    calls: PendingCalls<ServerCall>,
    /// Requests that are no calls.
    non_grpc: FuturesUnordered<Box<NonGrpcResponse>>,
    clock: Clock,
    turn: Arc<TurnWaker>,
    waker: Waker,
    lifetime: Lifetime,
    draining: bool,
    /// Runs while nothing is left but the client's acknowledgement of the end.
    goodbye: Option<Timer>,
}

/// How polling a connection ends.
enum Ended {
    /// The connection is closed and every call on it has ended.
    Closed,
    /// The client has broken a rule. Every call has ended; the GOAWAY is yet to be written.
    SentAway,
    /// It has lived long enough, and should drain. It goes on being polled.
    Retired,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    fn new(
        mut h2: h2::server::Connection<Socket<T>, Bytes>,
        socket: Socket<T>,
        context: Arc<ConnectionContext>,
    ) -> Self {
        let turn = Arc::new(TurnWaker::default());
        let waker = Waker::from(turn.clone());
        // The standard library seeds its hashes at random, which is random enough for this.
        let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
        let lifetime = Lifetime::new(context.settings.lifespan, h2.ping_pong(), random);
        let (calls, non_grpc) = (PendingCalls::new(waker.clone()), FuturesUnordered::new());
        let clock = Clock::new(context.settings.time_slice / 2);
        let (accepted, draining, goodbye) = (Vec::new(), false, None);
        Self {
            h2,
            socket,
            context,
            accepted,
            calls,
            non_grpc,
            clock,
            turn,
            waker,
            lifetime,
            draining,
            goodbye,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.turn.register(cx.waker());
        let waker = self.waker.clone();
        let turn_cx = &mut Context::from_waker(&waker);
        self.clock.update();
        let begun = self.clock.now();
        for _ in 0..TURNS_PER_POLL {
            self.turn.begin();
            let closed = self.poll_turn(turn_cx).is_ready();
            // First the rules: whoever breaks one finds the connection closed as well.
            match self.poll_rules(turn_cx) {
                Poll::Ready(Ended::Retired) if !closed => return Poll::Ready(Ended::Retired),
                Poll::Ready(Ended::SentAway) => return self.over(Ended::SentAway, turn_cx),
                Poll::Ready(_) => return self.over(Ended::Closed, turn_cx),
                Poll::Pending if closed => return self.over(Ended::Closed, turn_cx),
                Poll::Pending => {}
            }
            if self.turn.rest() {
                self.write_out(turn_cx);
                return Poll::Pending;
            }
            // Without a budget, whatever is of tokio only pretends to be pending.
            if self.clock.now() - begun >= self.context.settings.time_slice
                || !has_budget_remaining()
            {
                break;
            }
        }
        // More to do, but after the neighbours. A task that just wakes itself would be polled many
        // times before the runtime next looks for what has arrived for them.
        self.write_out(turn_cx);
        let _ = pin!(yield_now()).poll(cx);
        Poll::Pending
    }

    fn over(&mut self, ended: Ended, cx: &mut Context<'_>) -> Poll<Ended> {
        self.stop_calls(&Status::cancelled("the connection was lost"), cx);
        Poll::Ready(ended)
    }

    /// Ready when the client has broken a rule or time is up.
    fn poll_rules(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let open = self.calls.len() + self.non_grpc.len();
        let busy = open > 0;
        let (heard, go_away) = self.socket.policy(|policy| {
            policy.set_calls(open, self.context.inflate_budget.take_refused());
            policy.begin_turn();
            (policy.heard(), policy.go_away())
        });
        if let Some(reason) = go_away {
            tracing::info!(peer = %self.context.peer, reason = reason.0, "client sent away");
            self.socket.go_away(Reason::ENHANCE_YOUR_CALM, reason.0);
            return Poll::Ready(Ended::SentAway);
        }
        if self.draining && !busy {
            let goodbye = self.goodbye.get_or_insert_with(|| timer_after(GOODBYE));
            if goodbye.as_mut().poll(cx).is_ready() {
                // What the client opens from here on, it may safely send elsewhere.
                self.socket.go_away(Reason::NO_ERROR, "");
                self.write_out(cx);
                return Poll::Ready(Ended::Closed);
            }
        } else {
            self.goodbye = None;
        }
        self.lifetime.poll(busy, heard, cx).map(|expired| match expired {
            Expired::Retire => Ended::Retired,
            Expired::Dead => {
                tracing::debug!(peer = %self.context.peer, "keepalive timed out");
                Ended::Closed
            }
        })
    }

    /// Writes what the turns have gathered, as far as the peer takes it. It is outside of tokio's
    /// budget: calls may have used that up in each poll.
    fn write_out(&self, cx: &mut Context<'_>) {
        // An error is not for here: h2 meets it too when it next reads, and closes the connection.
        let written = pin!(unconstrained(poll_fn(|cx| self.socket.poll_drain(cx)))).poll(cx);
        if written.is_ready() && !self.context.outlet.is_empty() {
            // There was more than the socket took at first: h2 has to be asked for the rest.
            cx.waker().wake_by_ref();
        }
    }

    /// Ready when the connection is closed.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut closed = false;
        while self.accepted.len() < ACCEPTED_PER_TURN && !closed {
            match self.h2.poll_accept(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok((request, respond)))) => {
                    match ServerCall::start(request, respond, self.clock.now(), &self.context) {
                        Ok(call) => self.accepted.push(call),
                        Err(non_grpc) => self.non_grpc.push(non_grpc),
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(peer = %self.context.peer, %error, "connection failed");
                    closed = true;
                }
                Poll::Ready(None) => closed = true,
            }
        }
        if !self.socket.is_blocked() {
            self.context.outlet.written();
        }
        if self.accepted.len() == ACCEPTED_PER_TURN {
            cx.waker().wake_by_ref();
        }
        if !self.accepted.is_empty() {
            self.lifetime.call_opened();
        }
        if self.draining {
            // Opened before the client knew.
            self.accepted.iter().for_each(ServerCall::drain);
        }
        self.poll_calls(cx);
        while let Poll::Ready(Some(())) = self.non_grpc.poll_next_unpin(cx) {}
        if closed { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Polls the new calls, then those that wait and were woken, each for a slice of time. Those for
    /// which there was none come first in the next turn.
    fn poll_calls(&mut self, cx: &mut Context<'_>) {
        let Self { accepted, calls, clock, context, .. } = self;
        clock.update();
        clock.start_slice();
        // Most calls answer at once and need no place among those that wait.
        let mut waits = |call: &mut ServerCall| {
            if clock.is_over() {
                return true;
            }
            let polled = Pin::new(&mut *call).poll(cx);
            context.count_poll(call, clock.update());
            polled.is_pending()
        };
        accepted.extract_if(.., |call| waits(call)).for_each(|call| calls.push(call));
        accepted.clear();
        // They have time of their own, however many new calls there are.
        clock.start_slice();
        calls.poll(|call| {
            context.count_poll(call, clock.update());
            if clock.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }

    /// Tells the client to open no more calls here, and the handlers of those that are open.
    fn drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        self.h2.graceful_shutdown();
        self.calls.iter().for_each(ServerCall::drain);
    }

    fn stop_calls(&mut self, reason: &Status, cx: &mut Context<'_>) {
        for mut call in self.calls.take() {
            call.stop(reason.clone(), cx);
        }
    }
}

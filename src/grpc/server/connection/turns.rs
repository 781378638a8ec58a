use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop::{has_budget_remaining, unconstrained};
use tokio::task::yield_now;

use super::context::ConnectionContext;
use super::non_grpc::NonGrpcResponse;
use super::pending_calls::PendingCalls;
use super::server_call::ServerCall;
use super::socket::Socket;
use super::turn_waker::TurnWaker;
use crate::grpc::server::policy::lifetime::{Expired, Lifetime};
use crate::grpc::server::scheduling::clock::Clock;
use crate::grpc::server::scheduling::timer::{Timer, timer_after};
use crate::grpc::status::Status;

/// New calls accepted in one turn before the answers of the first are written.
const ACCEPTED_PER_TURN: usize = 64;

/// Turns in one poll of the task before other connections of the worker get theirs.
const TURNS_PER_POLL: usize = 16;

/// How long a client that has no calls left may take to acknowledge that the connection closes: a
/// round trip to the other side of the world and back, several times.
const GOAWAY_ACK_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection and its calls, all polled by one future.
///
/// One poll is a number of turns. A turn accepts what has arrived (and h2 queues what the turn
/// before has answered), polls each new call once, then the pending calls that were woken. Only
/// after the last turn are the gathered frames written, in as few system calls as possible.
pub(super) struct Connection<T> {
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
    goaway_ack_timer: Option<Timer>,
}

/// How polling a connection ends.
pub(super) enum Ended {
    /// The connection is closed and every call on it has ended.
    Closed,
    /// The client has broken a rule. Every call has ended; the GOAWAY is yet to be written.
    GoAway,
    /// It has lived long enough, and should drain. It goes on being polled.
    Retired,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    pub(super) fn new(
        mut h2: h2::server::Connection<Socket<T>, Bytes>,
        socket: Socket<T>,
        context: Arc<ConnectionContext>,
    ) -> Self {
        let turn = Arc::new(TurnWaker::default());
        let waker = Waker::from(turn.clone());
        // The standard library seeds its hashes at random, which is random enough for this.
        let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
        let lifetime = Lifetime::new(context.settings.lifetime, h2.ping_pong(), random);
        let (calls, non_grpc) = (PendingCalls::new(waker.clone()), FuturesUnordered::new());
        let clock = Clock::new(context.settings.time_slice / 2);
        let (accepted, draining, goaway_ack_timer) = (Vec::new(), false, None);
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
            goaway_ack_timer,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
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
                Poll::Ready(Ended::GoAway) => return self.over(Ended::GoAway, turn_cx),
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

    pub(super) fn socket(&self) -> Socket<T> {
        self.socket.clone()
    }

    pub(super) fn open_calls(&self) -> usize {
        self.calls.len()
    }

    /// How long the calls of a connection that is too old may go on; `None` is without a limit.
    pub(super) fn grace(&self) -> Option<Duration> {
        self.lifetime.grace()
    }

    fn over(&mut self, ended: Ended, cx: &mut Context<'_>) -> Poll<Ended> {
        self.stop_calls(&Status::cancelled("the connection was lost"), cx);
        Poll::Ready(ended)
    }

    /// Ready when the client has broken a rule or time is up.
    fn poll_rules(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let open = self.calls.len() + self.non_grpc.len();
        let busy = open > 0;
        let (last_received, go_away) = self.socket.policy(|policy| {
            policy.set_calls(open, self.context.inflate_budget.take_refused());
            policy.begin_turn();
            (policy.last_received(), policy.go_away())
        });
        if let Some(reason) = go_away {
            tracing::info!(peer = %self.context.peer, reason = reason.0, "connection closed: the client broke a rule");
            self.context.offenders.add(&self.context.peer);
            self.socket.go_away(Reason::ENHANCE_YOUR_CALM, reason.0);
            return Poll::Ready(Ended::GoAway);
        }
        if self.draining && !busy {
            let goaway_ack_timer =
                self.goaway_ack_timer.get_or_insert_with(|| timer_after(GOAWAY_ACK_TIMEOUT));
            if goaway_ack_timer.as_mut().poll(cx).is_ready() {
                // What the client opens from here on, it may safely send elsewhere.
                self.socket.go_away(Reason::NO_ERROR, "");
                self.write_out(cx);
                return Poll::Ready(Ended::Closed);
            }
        } else {
            self.goaway_ack_timer = None;
        }
        self.lifetime.poll(busy, last_received, cx).map(|expired| match expired {
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
        if written.is_ready() && !self.context.send_buffer.is_empty() {
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
            self.context.send_buffer.written();
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
            context.count_poll(call.method(), clock.update());
            polled.is_pending()
        };
        accepted.extract_if(.., |call| waits(call)).for_each(|call| calls.push(call));
        accepted.clear();
        // They have time of their own, however many new calls there are.
        clock.start_slice();
        calls.poll(|call| {
            context.count_poll(call.method(), clock.update());
            if clock.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }

    /// Tells the client to open no more calls here, and the handlers of those that are open.
    pub(super) fn drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        self.h2.graceful_shutdown();
        self.calls.iter().for_each(ServerCall::drain);
    }

    pub(super) fn stop_calls(&mut self, reason: &Status, cx: &mut Context<'_>) {
        for mut call in self.calls.take() {
            call.stop(reason.clone(), cx);
        }
    }
}

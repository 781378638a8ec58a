use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::coop::{has_budget_remaining, unconstrained};
use tokio::task::yield_now;

use super::context::ConnectionContext;
use super::non_grpc::NonGrpcResponse;
use super::pending_calls::PendingCalls;
use super::server_call::ServerCall;
use super::turn_waker::TurnWaker;
use crate::grpc::server::policy::lifetime::{Expired, Lifetime};
use crate::grpc::server::scheduling::clock::Clock;
use crate::grpc::server::scheduling::timer::{Timer, timer_after};
use crate::grpc::server::transport::Transport;
use crate::grpc::status::Status;
use crate::http2::error_code::ErrorCode;

/// New calls accepted per turn, before their responses are written.
const ACCEPTED_PER_TURN: usize = 64;

/// Turns per poll of the task, before other connections of the worker are polled.
const TURNS_PER_POLL: usize = 16;

/// How long a client without calls may take to acknowledge the graceful shutdown: several round
/// trips around the world.
const GOAWAY_ACK_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection and its calls, polled by one future.
///
/// One poll runs several turns. A turn accepts new requests, polls each new call once, and then
/// polls woken calls. While it accepts, the transport also queues the responses of the previous
/// turn. The buffered frames are written after the last turn, in as few system calls as possible.
pub(super) struct Connection<T: Transport> {
    transport: T,
    context: Arc<ConnectionContext>,
    /// New calls of this turn. Empty between turns, and without memory while the connection rests.
    accepted: Vec<ServerCall<T::Stream>>,
    /// How many calls the last turn with new calls had.
    accepted_last: usize,
    /// Calls that were pending after their first poll.
    calls: PendingCalls<ServerCall<T::Stream>>,
    /// Requests that are not gRPC.
    non_grpc: FuturesUnordered<Box<NonGrpcResponse<T::Stream>>>,
    clock: Clock,
    turn: Arc<TurnWaker>,
    waker: Waker,
    lifetime: Lifetime,
    draining: bool,
    /// Set while only the client's acknowledgement of the shutdown is missing.
    goaway_ack_timer: Option<Timer>,
}

/// Why polling a connection has ended.
pub(super) enum Ended {
    /// The connection is closed and all its calls have ended.
    Closed,
    /// The client has violated the policy. All calls have ended; the GOAWAY is not written yet.
    GoAway,
    /// The connection is too old or idle and should drain. Polling continues.
    Retired,
}

impl<T: Transport> Connection<T> {
    pub(super) fn new(transport: T, context: Arc<ConnectionContext>) -> Self {
        let turn = Arc::new(TurnWaker::default());
        let waker = Waker::from(turn.clone());
        // The random seed of the standard library's hashes is random enough here.
        let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
        let lifetime = Lifetime::new(context.settings.lifetime, random);
        let (calls, non_grpc) = (PendingCalls::new(waker.clone()), FuturesUnordered::new());
        let clock = Clock::new(context.settings.time_slice / 2);
        let (accepted, draining, goaway_ack_timer) = (Vec::new(), false, None);
        Self {
            transport,
            context,
            accepted,
            accepted_last: 0,
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
            // Check the policy first, because a violation also closes the connection.
            match self.poll_rules(turn_cx) {
                Poll::Ready(Ended::Retired) if !closed => return Poll::Ready(Ended::Retired),
                Poll::Ready(Ended::GoAway) => return self.over(Ended::GoAway, turn_cx),
                Poll::Ready(_) => return self.over(Ended::Closed, turn_cx),
                Poll::Pending if closed => {
                    let failed = self.transport.has_failed();
                    let ended = if failed { Ended::GoAway } else { Ended::Closed };
                    return self.over(ended, turn_cx);
                }
                Poll::Pending => {}
            }
            // Without budget, tokio's resources always return pending.
            if !self.turn.is_woken()
                || self.clock.now() - begun >= self.context.settings.time_slice
                || !has_budget_remaining()
            {
                break;
            }
        }
        self.write_out(turn_cx);
        if self.turn.rest() {
            self.accepted = Vec::new();
            return Poll::Pending;
        }
        // Continue after other connections, also if it was the write that has made room for calls.
        // A task that only wakes itself would be polled many times before the runtime next polls
        // for I/O.
        let _ = pin!(yield_now()).poll(cx);
        Poll::Pending
    }

    /// Drops everything but the transport.
    pub(super) fn into_transport(self) -> T {
        self.transport
    }

    pub(super) fn open_calls(&self) -> usize {
        self.calls.len()
    }

    /// The time that open calls have once the connection is too old. `None` is no limit.
    pub(super) fn grace(&self) -> Option<Duration> {
        self.lifetime.grace()
    }

    fn over(&mut self, ended: Ended, cx: &mut Context<'_>) -> Poll<Ended> {
        self.stop_calls(&Status::cancelled("the connection was lost"), cx);
        Poll::Ready(ended)
    }

    /// Ready when the client has violated the policy or a timer has expired.
    fn poll_rules(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let open = self.calls.len() + self.non_grpc.len();
        let busy = open > 0;
        let refused = self.context.inflate_budget.take_refused();
        let last_received = match self.transport.check_policy(open, refused) {
            Ok(last_received) => last_received,
            Err(violation) => {
                tracing::info!(
                    peer = %self.context.peer,
                    reason = violation.0,
                    "connection closed: the client violated the enforcement policy"
                );
                self.context.offenders.add(&self.context.peer);
                self.transport.go_away(ErrorCode::ENHANCE_YOUR_CALM, violation.0);
                return Poll::Ready(Ended::GoAway);
            }
        };
        if self.draining && !busy {
            let goaway_ack_timer =
                self.goaway_ack_timer.get_or_insert_with(|| timer_after(GOAWAY_ACK_TIMEOUT));
            if goaway_ack_timer.as_mut().poll(cx).is_ready() {
                // The client may safely send later calls elsewhere.
                self.transport.go_away(ErrorCode::NO_ERROR, "");
                self.write_out(cx);
                return Poll::Ready(Ended::Closed);
            }
        } else {
            self.goaway_ack_timer = None;
        }
        let expired = self.lifetime.poll(busy, last_received, &mut self.transport, cx);
        expired.map(|expired| match expired {
            Expired::Retire => Ended::Retired,
            Expired::Dead => {
                tracing::debug!(peer = %self.context.peer, "keepalive timed out");
                Ended::Closed
            }
        })
    }

    /// Writes the queued frames. It runs outside tokio's cooperative budget, because calls may use
    /// that up in each poll.
    fn write_out(&mut self, cx: &mut Context<'_>) {
        let written = poll_fn(|cx| {
            self.transport.write(cx);
            Poll::Ready(())
        });
        let _ = pin!(unconstrained(written)).poll(cx);
    }

    /// Ready when the connection is closed.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut closed = false;
        while self.accepted.len() < ACCEPTED_PER_TURN && !closed {
            match self.transport.poll_request(cx) {
                Poll::Pending => break,
                Poll::Ready(Some((parts, stream))) => {
                    match ServerCall::start(parts, stream, self.clock.now(), &self.context) {
                        Ok(call) => {
                            if self.accepted.capacity() == 0 {
                                self.accepted.reserve_exact(self.accepted_last.max(1));
                            }
                            self.accepted.push(call);
                        }
                        Err(non_grpc) => self.non_grpc.push(non_grpc),
                    }
                }
                Poll::Ready(None) => closed = true,
            }
        }
        if self.accepted.len() == ACCEPTED_PER_TURN {
            cx.waker().wake_by_ref();
        }
        if !self.accepted.is_empty() {
            self.accepted_last = self.accepted.len();
            self.lifetime.call_opened();
        }
        if self.draining {
            // Opened before the client received the GOAWAY.
            self.accepted.iter().for_each(ServerCall::drain);
        }
        self.poll_calls(cx);
        while let Poll::Ready(Some(())) = self.non_grpc.poll_next_unpin(cx) {}
        if closed { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Polls new calls for half a time slice, then woken calls for another half. Calls that were
    /// not polled come first in the next turn.
    fn poll_calls(&mut self, cx: &mut Context<'_>) {
        let Self { accepted, calls, clock, context, .. } = self;
        clock.update();
        clock.start_slice();
        // Most calls complete in their first poll and never become pending calls.
        let mut waits = |call: &mut ServerCall<T::Stream>| {
            if clock.is_over() {
                return true;
            }
            let polled = Pin::new(&mut *call).poll(cx);
            context.count_poll(call.method(), clock.update());
            polled.is_pending()
        };
        accepted.extract_if(.., |call| waits(call)).for_each(|call| calls.push(call));
        accepted.clear();
        // A slice of their own, however many new calls there are.
        clock.start_slice();
        calls.poll(|call| {
            context.count_poll(call.method(), clock.update());
            if clock.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }

    /// Starts a graceful shutdown: a GOAWAY to the client, and a notification to the handlers of
    /// open calls.
    pub(super) fn drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        self.transport.graceful_shutdown();
        self.calls.iter().for_each(ServerCall::drain);
    }

    pub(super) fn stop_calls(&mut self, reason: &Status, cx: &mut Context<'_>) {
        for mut call in self.calls.take() {
            call.stop(reason.clone(), cx);
        }
    }
}

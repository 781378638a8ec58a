mod errors;
mod response;
mod start;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use self::response::{Response, Sent, Stage};
use super::context::ConnectionContext;
use super::linger::{Linger, SizedRequest};
use crate::grpc::call::Outcome;
use crate::grpc::exchange::Exchange;
use crate::grpc::handler::BoxFuture;
use crate::grpc::method::Method;
use crate::grpc::server::policy::budget::Share;
use crate::grpc::server::policy::call_limits::{CallLimits, Progress};
use crate::grpc::server::transport::Stream;
use crate::grpc::status::Status;
use crate::http2::error_code::ErrorCode;

/// Rounds per poll of a call, before other calls are polled: 128 KiB of streamed messages.
const ROUNDS: usize = 8;

/// A later reset is usually a deadline or a cancellation. An earlier one is usually an attack.
const EARLY_RESET: Duration = Duration::from_millis(10);

/// One call on its HTTP/2 stream. It moves bytes between the stream and the call's [`Exchange`], polls the
/// handler, and sends the status once.
pub(crate) struct ServerCall<S: Stream> {
    exchange: Arc<Exchange>,
    /// The future of the interceptors and the handler. `None` after it has returned an outcome.
    running: Option<BoxFuture<'static, Outcome>>,
    stream: S,
    /// Whether the client may still send.
    receiving: bool,
    response: Response,
    /// Set if an early response waits for the rest of the request.
    sized_request: Option<SizedRequest>,
    limits: CallLimits,
    /// Memory of the request metadata, in bytes.
    head_size: usize,
    started: std::time::Instant,
    /// The messages taken by the handler that `SharedState` has already counted.
    counted: u64,
    share: Share,
    context: Arc<ConnectionContext>,
}

/// The result of a round.
enum Round {
    /// Nothing more to do until the call is woken.
    Rest,
    /// The handler can continue at once.
    Again,
    /// The call has ended. Ready if its stream can be dropped.
    Over(Poll<()>),
}

impl<S: Stream> ServerCall<S> {
    /// Ends the call now with the status `reason`. Drops the handler and discards unsent messages.
    /// The client gets the status if its stream can still carry it.
    pub(crate) fn stop(&mut self, reason: Status, cx: &mut Context<'_>) {
        self.exchange.end(reason.clone());
        self.run(cx);
        let outcome = self.response.outcome.get_or_insert_with(|| reason.clone().into());
        if outcome.status.is_ok() {
            outcome.status = reason;
        }
        let mut state = self.exchange.lock();
        let cut = state.outbound.inside_message();
        state.outbound.discard();
        drop(state);
        if let (true, Stage::Body) = (cut, &self.response.stage) {
            self.stream.reset(ErrorCode::CANCEL);
            self.receiving = false;
        } else {
            let _ = self.send(cx);
        }
        self.close();
    }

    pub(crate) fn method(&self) -> &'static Method {
        self.response.method
    }

    /// Notifies the handler that the server is draining.
    pub(crate) fn drain(&self) {
        self.exchange.drain();
    }

    /// Polls the interceptors and the handler.
    fn run(&mut self, cx: &mut Context<'_>) {
        let Some(running) = &mut self.running else { return };
        self.context.set_last_polled(self.response.method);
        if let Poll::Ready(outcome) = running.as_mut().poll(cx) {
            self.running = None;
            self.response.outcome = Some(outcome);
        }
    }

    /// Takes all received data. h2 counts small frames that it still holds, and closes connections
    /// with too many of them.
    fn receive(&mut self, cx: &mut Context<'_>) {
        if self.response.method.client_streaming {
            let received = self.exchange.received();
            let more = (received - self.counted) as u32;
            if more > 0 {
                self.context.shared_state.messages.add(more);
                self.counted = received;
            }
        }
        let mut state = self.exchange.lock();
        state.begin();
        let mut lost = None;
        while self.receiving
            && let Poll::Ready(received) = self.stream.poll_data(cx)
        {
            match received {
                Some(Ok(chunk)) => state.inbound.receive(chunk),
                Some(Err(error)) => {
                    self.receiving = false;
                    let status = self.response.lost(&error);
                    state.inbound.finish(Err(status.clone()));
                    lost = Some(status);
                }
                None => {
                    self.receiving = false;
                    state.inbound.finish(Ok(()));
                }
            }
        }
        let taken = state.release();
        if taken > 0 {
            self.stream.release(taken);
        }
        let reader = state.inbound.take_reader();
        drop(state);
        // A reader in this task is polled next anyway.
        wake_others(reader, cx);
        if let Some(status) = lost {
            self.exchange.end(status);
        }
    }

    /// Whether the complete response must wait for the rest of the request.
    fn waits_for_request(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(sized_request) = &mut self.sized_request else { return false };
        if self.response.outcome.is_none() || !self.receiving || !self.response.is_unsent() {
            return false;
        }
        // The handler has returned, so the rest of the request is discarded.
        self.exchange.lock().inbound.discard();
        sized_request.poll_timeout(cx).is_pending()
    }

    /// Sends as much as possible. Also returns whether the handler was waiting, in this task, for
    /// the buffer space that this has freed.
    fn send(&mut self, cx: &mut Context<'_>) -> (Sent, bool) {
        let header_limit = self.context.shared_state.header_limit();
        self.response.check_trailers(header_limit);
        let mut state = self.exchange.lock();
        let outbound = state.outbound_seen();
        let sent = self.response.send(&mut self.stream, outbound, header_limit, cx);
        if !matches!(sent, Sent::Available) || self.response.is_unsent() {
            return (sent, false);
        }
        let unsent = outbound.buffered();
        let writers = outbound.take_writers();
        drop(state);
        if unsent == 0 && self.response.send_trailers(&mut self.stream, header_limit) {
            return (Sent::Status, false);
        }
        (sent, wake_others(writers, cx))
    }

    /// Ready with the final status when the client, a limit or the connection ends the call.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if let Poll::Ready(status) = self.response.poll_reset(&mut self.stream, cx) {
            return Poll::Ready(status);
        }
        let mut awaited = None;
        if self.limits.has_idle_limit() {
            let state = self.exchange.lock();
            if state.awaits_client() {
                let (received, gone) = (self.exchange.received(), state.gone());
                awaited = Some(Progress { received, gone });
            }
        }
        self.limits.poll(self.receiving, awaited, cx)
    }

    fn close(&mut self) {
        let lingers = self.receiving && !self.response.is_complete();
        self.response.stage = if lingers { Stage::Lingering(Linger::new()) } else { Stage::Closed };
        // Returns the window of unread bytes to the connection's other calls.
        let unread = self.exchange.close();
        if unread > 0 {
            self.stream.release(unread);
        }
    }

    /// Ready when the stream of an ended call can be dropped.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.response.stage {
            Stage::Lingering(linger) => linger.poll(&mut self.stream, cx),
            _ => Poll::Ready(()),
        }
    }

    /// Receives, polls the handler and sends, once each.
    fn round(&mut self, cx: &mut Context<'_>) -> Round {
        self.receive(cx);
        self.run(cx);
        if self.waits_for_request(cx) {
            return Round::Rest;
        }
        let (sent, made_room) = self.send(cx);
        let stopped = match sent {
            Sent::Status => {
                self.close();
                return Round::Over(self.poll_closed(cx));
            }
            Sent::StreamLost(reason) => {
                self.receiving = false;
                Poll::Ready(reason)
            }
            Sent::Failed(reason) => Poll::Ready(reason),
            Sent::Available => self.poll_stopped(cx),
        };
        if let Poll::Ready(reason) = stopped {
            self.stop(reason, cx);
            return Round::Over(self.poll_closed(cx));
        }
        let mut state = self.exchange.lock();
        state.compact();
        if let Err(exhausted) = self.share.settle(self.head_size + state.held()) {
            drop(state);
            self.stop(exhausted, cx);
            return Round::Over(self.poll_closed(cx));
        }
        if !made_room && state.rest(cx) { Round::Rest } else { Round::Again }
    }
}

/// The interceptors see an outcome on every path, and tasks that wait for the end of the call are
/// woken.
impl<S: Stream> Drop for ServerCall<S> {
    fn drop(&mut self) {
        if self.response.reset && self.started.elapsed() >= EARLY_RESET {
            self.context.shared_state.late_resets.add(1);
        }
        if self.running.is_none() && self.response.is_complete() {
            return;
        }
        self.exchange.abandon(Status::cancelled("the connection was dropped"));
        self.run(&mut Context::from_waker(Waker::noop()));
    }
}

/// Dropping it drops the handler and the stream.
impl<S: Stream> Future for ServerCall<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if let Stage::Lingering(_) = this.response.stage {
            return this.poll_closed(cx);
        }
        for _ in 0..ROUNDS {
            match this.round(cx) {
                Round::Rest => return Poll::Pending,
                Round::Again => {}
                Round::Over(closed) => return closed,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Wakes the other tasks. Returns whether this task was in the list.
fn wake_others(wakers: impl IntoIterator<Item = Waker>, cx: &Context<'_>) -> bool {
    let mut this_one = false;
    for waker in wakers {
        if waker.will_wake(cx.waker()) {
            this_one = true;
        } else {
            waker.wake();
        }
    }
    this_one
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::ServerCall;
    use crate::grpc::server::transport::{H2, Transport};

    #[test]
    fn server_call_is_cheap_to_move() {
        // Each call is moved into a list, and once more if its first poll is pending.
        let size = size_of::<ServerCall<<H2<DuplexStream> as Transport>::Stream>>();
        assert!(size <= 528, "{size} bytes");
    }
}

//! What the two sides of one call share: the transport on one side, the handler with its
//! interceptors on the other. No I/O happens here and HTTP/2 is not known here, so a call can
//! as well be driven by a test.
//!
//! ```text
//!   transport                        Exchange                         handler
//!   DATA      -- receive() ------->  inbound:  FrameDecoder --------> poll_received()
//!   DATA      <-- split() ---------  outbound: encoded messages <---- poll_writable(), write()
//!   RST, deadline, drain -- end() ->  ended: Status ----------------> Cancellation
//! ```

mod hooks;
mod inbound;
mod outbound;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Buf;
use prost::Message;
use tokio::sync::Notify;

use self::hooks::Hooks;
pub(crate) use self::inbound::Inbound;
use self::inbound::wrong_count;
use self::outbound::COALESCE;
pub(crate) use self::outbound::Outbound;
use super::compression::{Compressor, Encoding};
use super::frame::{Frame, Payload, WholeFrames};
use super::inflate_budget::{InflateBudget, Inflating};
use super::status::Status;

/// Sees one message as it is received or sent.
pub(crate) type Observer = Box<dyn FnMut(MessageEvent<'_>) + Send>;

/// Says whether the handler may have one more message.
pub(crate) type Gate = Box<dyn FnMut() -> Result<(), Status> + Send>;

/// A message that passes through a call: its encoded and uncompressed bytes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum MessageEvent<'a> {
    /// From the client, before it is decoded.
    Received(&'a [u8]),
    /// From the handler, before it is on the wire.
    Sent(&'a [u8]),
}

/// What is settled about a call before it begins.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// The longest message that is received, in bytes.
    pub(crate) receive_limit: usize,
    /// The longest message that is sent, in bytes.
    pub(crate) send_limit: usize,
    /// How the client compresses.
    pub(crate) encoding: Option<Encoding>,
    /// For the work of decompressing; `None` is no bound.
    pub(crate) inflate_budget: Option<Arc<InflateBudget>>,
    /// How responses are compressed.
    pub(crate) compressor: Option<Compressor>,
}

pub(crate) struct Exchange {
    state: Mutex<State>,
    /// The transport was dropped, perhaps outside of any task: the handler is not polled again.
    abandoned: AtomicBool,
    /// Told when the call ends or the server begins to drain. Unset while nobody has asked, as in
    /// most calls.
    changed: OnceLock<Notify>,
    /// SpawnedHandler from `state`, so that an observer may look at the call.
    observers: Hooks<Observer>,
    gates: Hooks<Gate>,
    /// Messages that the handler has taken. There is one reader, so adding needs no more than a
    /// load and a store.
    received: AtomicU64,
    /// Whether the last message that the handler has taken came compressed.
    compressed: AtomicBool,
    receive_limit: usize,
    encoding: Option<Encoding>,
    inflate_budget: Option<Arc<InflateBudget>>,
    /// Who calls, once that is known, for logs.
    principal: OnceLock<Box<str>>,
}

/// What the handler is given of its input.
pub(crate) enum Received {
    /// Messages that came together.
    Frames(WholeFrames),
    /// One message, decompressed if need be.
    Message(Payload),
    /// The client has half-closed.
    End,
}

pub(crate) struct State {
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    transport: Transport,
    /// Set once, when the call is over for the handler, with the reason.
    ended: Option<Status>,
    /// The server has begun to drain.
    draining: bool,
    /// Bytes that the handler holds, as it says.
    charged: usize,
}

/// The transport's side of the wake-ups: while it is being polled it looks at everything before
/// it rests, so it need not be woken.
#[derive(Default)]
struct Transport {
    running: bool,
    /// There is window to give back.
    inbound_changed: bool,
    /// There is something to send.
    outbound_changed: bool,
    waker: Option<Waker>,
}

impl Exchange {
    pub(crate) fn new(terms: Terms) -> Arc<Self> {
        Self::build(terms, false)
    }

    /// An exchange without a transport: what is sent stays in the buffer, however much it is.
    pub(crate) fn detached() -> Arc<Self> {
        let (receive_limit, send_limit) = (usize::MAX, usize::MAX);
        Self::build(
            Terms {
                receive_limit,
                send_limit,
                encoding: None,
                inflate_budget: None,
                compressor: None,
            },
            true,
        )
    }

    fn build(terms: Terms, unbounded: bool) -> Arc<Self> {
        let state = State {
            inbound: Inbound::new(terms.receive_limit),
            outbound: Outbound::new(&terms, unbounded),
            transport: Transport::default(),
            ended: None,
            draining: false,
            charged: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            abandoned: AtomicBool::new(false),
            changed: OnceLock::new(),
            observers: Hooks::new(),
            gates: Hooks::new(),
            received: AtomicU64::new(0),
            compressed: AtomicBool::new(false),
            receive_limit: terms.receive_limit,
            encoding: terms.encoding,
            inflate_budget: terms.inflate_budget,
            principal: OnceLock::new(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock (in a message's own code, say) ends its call, not the others.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the call is over for the handler, if it is.
    pub(crate) fn ended(&self) -> Option<Status> {
        self.lock().ended.clone()
    }

    /// Ends the call for the handler's side. Only the first reason counts.
    pub(crate) fn end(&self, status: Status) {
        let woken = self.lock().end(status);
        self.notify_end(woken);
    }

    /// Ends it likewise, and gives the bytes of window that are free then.
    pub(crate) fn close(&self, status: Status) -> usize {
        let mut state = self.lock();
        let (woken, free) = (state.end(status), state.release());
        drop(state);
        self.notify_end(woken);
        free
    }

    fn notify_end(&self, woken: Option<impl Iterator<Item = Waker>>) {
        if let Some(woken) = woken {
            self.notify_changed();
            woken.for_each(Waker::wake);
        }
    }

    /// Ends the call because its transport is being dropped.
    pub(crate) fn abandon(&self, status: Status) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.end(status);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Waits until the call is over for the handler.
    pub(crate) async fn until_ended(&self) -> Status {
        self.until(|| self.ended()).await
    }

    /// Waits until the server drains or the call is over, and says which.
    pub(crate) async fn until_draining(&self) -> Status {
        self.until(|| {
            let state = self.lock();
            let drains = || Status::unavailable("the server is shutting down");
            state.ended.clone().or_else(|| state.draining.then(drains))
        })
        .await
    }

    async fn until<T>(&self, check: impl Fn() -> Option<T>) -> T {
        let notify = self.changed.get_or_init(Notify::new);
        let mut changed = pin!(notify.notified());
        loop {
            // First listen, then look: what happens in between is heard.
            changed.as_mut().enable();
            if let Some(seen) = check() {
                return seen;
            }
            changed.as_mut().await;
            changed.set(notify.notified());
        }
    }

    /// Tells the handler, if it cares, that the server drains.
    pub(crate) fn drain(&self) {
        self.lock().draining = true;
        self.notify_changed();
    }

    /// Wakes those that look for changed. One who begins to look meanwhile sees it by himself.
    fn notify_changed(&self) {
        if let Some(changed) = self.changed.get() {
            changed.notify_waiters();
        }
    }

    pub(crate) fn observe(&self, observer: Observer) {
        self.observers.add(observer);
    }

    fn is_observed(&self) -> bool {
        !self.observers.is_empty()
    }

    /// Shows a message that the handler takes to those who observe the call.
    pub(crate) fn show_received(&self, message: &[u8]) {
        if self.is_observed() {
            self.show(MessageEvent::Received(message));
        }
    }

    fn show(&self, event: MessageEvent<'_>) {
        self.observers.all().iter_mut().for_each(|observer| observer(event));
    }

    pub(crate) fn gate(&self, gate: Gate) {
        self.gates.add(gate);
    }

    /// Whether the handler may have the message that it is about to take. If not, it was the last.
    pub(crate) fn admit(&self) -> Result<(), Status> {
        if self.gates.is_empty() {
            return Ok(());
        }
        let admitted = self.gates.all().iter_mut().try_for_each(|gate| gate());
        admitted.inspect_err(|status| self.fail_input(status))
    }

    /// Messages that the handler has taken.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether the last of them came compressed.
    pub(crate) fn compressed(&self) -> bool {
        self.compressed.load(Ordering::Relaxed)
    }

    /// How the client compresses.
    pub(crate) fn encoding(&self) -> Option<Encoding> {
        self.encoding
    }

    pub(crate) fn principal(&self) -> &OnceLock<Box<str>> {
        &self.principal
    }

    /// Messages that the handler has given.
    pub(crate) fn sent(&self) -> u64 {
        self.lock().outbound.sent()
    }

    // The handler's side.

    /// The next messages, as many as can be had at once.
    pub(crate) fn poll_received(&self, cx: &mut Context<'_>) -> Poll<Result<Received, Status>> {
        let mut state = self.lock();
        state.inbound.in_hand = 0;
        if state.ended.is_none()
            && state.inbound.inflating.is_none()
            && let Some(frames) = state.whole_frames()
        {
            state.inbound.awaited = false;
            self.compressed.store(false, Ordering::Relaxed);
            return Poll::Ready(Ok(Received::Frames(frames)));
        }
        let message = ready!(self.poll_message(state, cx))?;
        Poll::Ready(Ok(message.map_or(Received::End, Received::Message)))
    }

    /// The only message of a call, once the client has half-closed.
    pub(crate) fn poll_only(&self, cx: &mut Context<'_>) -> Poll<Result<Payload, Status>> {
        let mut state = self.lock();
        if let Some(status) = &state.ended {
            return Poll::Ready(Err(status.clone()));
        }
        ready!(state.poll_only(cx))?;
        let message = ready!(self.poll_message(state, cx))?;
        let message = message.ok_or_else(|| wrong_count("none arrived"))?;
        self.admit()?;
        self.count_received();
        Poll::Ready(Ok(message))
    }

    /// The next message, or `None` after the client's half-close.
    fn poll_message(
        &self,
        mut state: MutexGuard<'_, State>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Payload>, Status>> {
        if let Some(status) = &state.ended {
            return Poll::Ready(Err(status.clone()));
        }
        let inflating = match state.inbound.inflating.take() {
            Some(inflating) => inflating,
            None => match ready!(state.poll_frame(cx))? {
                None => return Poll::Ready(Ok(None)),
                Some(Frame { compressed, payload })
                    // Some clients set the flag on an empty message and leave it empty.
                    if !compressed || !payload.has_remaining() && self.encoding.is_some() =>
                {
                    drop(state);
                    return Poll::Ready(Ok(Some(self.taken(compressed, payload))));
                }
                Some(Frame { payload, .. }) => {
                    let started = self.inflating(payload);
                    Box::new(started.inspect_err(|status| state.inbound.fail(status))?)
                }
            },
        };
        drop(state);
        let message = ready!(self.poll_inflated(inflating, cx))?;
        Poll::Ready(Ok(Some(self.taken(true, message))))
    }

    /// Decompresses on for a slice of time, without the lock.
    fn poll_inflated(
        &self,
        mut inflating: Box<Inflating>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Payload, Status>> {
        match inflating.poll(cx) {
            Poll::Ready(Ok(message)) => Poll::Ready(Ok(message.into())),
            Poll::Pending => {
                let mut state = self.lock();
                if let Some(status) = &state.ended {
                    return Poll::Ready(Err(status.clone()));
                }
                state.inbound.inflating = Some(inflating);
                // It may hold more than the transport knows of.
                state.transport.notify();
                Poll::Pending
            }
            Poll::Ready(Err(status)) => {
                self.fail_input(&status);
                Poll::Ready(Err(status))
            }
        }
    }

    fn inflating(&self, payload: Payload) -> Result<Inflating, Status> {
        // PROTOCOL-HTTP2, "Compressed-Flag": without an encoding the flag is an error.
        let encoding = self.encoding.ok_or_else(|| {
            Status::internal("compressed message in a call without grpc-encoding")
        })?;
        let budget = self.inflate_budget.clone();
        Ok(Inflating::new(encoding, payload, self.receive_limit, budget))
    }

    /// A message that the handler takes, once those who observe the call have seen it.
    fn taken(&self, compressed: bool, mut message: Payload) -> Payload {
        self.compressed.store(compressed, Ordering::Relaxed);
        if self.is_observed() {
            let bytes = message.into_bytes();
            self.show_received(&bytes);
            message = bytes.into();
        }
        message
    }

    /// Counts a message that the handler has taken.
    pub(crate) fn count_received(&self) {
        let count = self.received.load(Ordering::Relaxed);
        self.received.store(count + 1, Ordering::Relaxed);
    }

    /// After a fault of the client's there is nothing more to read.
    pub(crate) fn fail_input(&self, status: &Status) {
        self.lock().inbound.fail(status);
    }

    /// The handler does not wait for a message any more.
    pub(crate) fn stop_waiting(&self) {
        self.lock().inbound.awaited = false;
    }

    /// Ready when no more than `most` bytes are unsent.
    pub(crate) fn poll_unsent(
        &self,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Status>> {
        self.lock().poll_unsent(most, cx)
    }

    /// Waits while a full frame is unsent, then encodes a message, compressed if the call says so
    /// and `compress` does.
    pub(crate) fn poll_send(
        &self,
        message: &impl Message,
        compress: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Status>> {
        let mut state = self.lock();
        ready!(state.poll_unsent(COALESCE - 1, cx))?;
        Poll::Ready(self.write_to(state, message, compress))
    }

    /// The same without waiting.
    pub(crate) fn write(&self, message: &impl Message, compress: bool) -> Result<(), Status> {
        let state = self.lock();
        match &state.ended {
            Some(status) => Err(status.clone()),
            None => self.write_to(state, message, compress),
        }
    }

    fn write_to(
        &self,
        mut state: MutexGuard<'_, State>,
        message: &impl Message,
        compress: bool,
    ) -> Result<(), Status> {
        let copy = state.outbound.write(message, compress, self.is_observed())?;
        state.transport.outbound_changed = true;
        state.transport.notify();
        drop(state);
        if let Some(copy) = copy {
            self.show(MessageEvent::Sent(&copy));
        }
        Ok(())
    }

    /// Ready when nearly all is sent: less than a full frame is left.
    pub(crate) fn poll_nearly_sent(&self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.poll_unsent(COALESCE - 1, cx)
    }

    /// The handler holds another number of bytes than before.
    pub(crate) fn charge(&self, before: usize, after: usize) {
        let mut state = self.lock();
        state.charged = state.charged.saturating_sub(before).saturating_add(after);
        // A handler in a task of its own may hold more than the transport knows of.
        state.transport.notify();
    }

    /// Asks for the headers to go out now.
    pub(crate) fn flush_headers(&self) {
        let mut state = self.lock();
        state.outbound.flush_headers();
        state.transport.outbound_changed = true;
        state.transport.notify();
    }
}

impl State {
    /// Who has to be woken for it; `None` if the call was over.
    fn end(&mut self, status: Status) -> Option<impl Iterator<Item = Waker> + use<>> {
        if self.ended.is_some() {
            return None;
        }
        self.ended = Some(status);
        self.inbound.discard();
        let reader = self.inbound.take_reader();
        Some(reader.into_iter().chain(self.outbound.take_all_writers()))
    }

    fn poll_unsent(&mut self, most: usize, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        match &self.ended {
            Some(status) => Poll::Ready(Err(status.clone())),
            None => self.outbound.poll_unsent(most, cx).map(Ok),
        }
    }

    fn poll_only(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let polled = self.inbound.poll_only(cx);
        self.inbound_taken();
        polled
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, Status>> {
        let polled = self.inbound.poll_frame(cx);
        self.inbound_taken();
        let began = polled.is_pending() && !self.inbound.awaited;
        self.inbound.awaited = polled.is_pending();
        if began {
            // A handler in a task of its own may be waited for by nobody else.
            self.transport.notify();
        }
        polled
    }

    fn whole_frames(&mut self) -> Option<WholeFrames> {
        let frames = Some(self.inbound.whole_frames()).filter(|frames| !frames.is_empty());
        self.inbound_taken();
        frames
    }

    fn inbound_taken(&mut self) {
        if self.inbound.releasable() > 0 {
            self.transport.inbound_changed = true;
            self.transport.notify();
        }
    }

    // The transport's side.

    /// From here until [`rest`](Self::rest) says so the transport need not be woken.
    pub(crate) fn begin(&mut self) {
        self.transport.running = true;
    }

    /// What the handler has taken so far is seen; gives how many bytes of window are free.
    pub(crate) fn release(&mut self) -> usize {
        self.transport.inbound_changed = false;
        self.inbound.release()
    }

    /// Bytes of memory that hold messages which wait for the handler or the client, and what the
    /// handler has charged.
    pub(crate) fn held(&self) -> usize {
        self.inbound.held() + self.outbound.held() + self.charged
    }

    /// Whether the handler waits for the client to send a message, or to read.
    pub(crate) fn awaits_client(&self) -> bool {
        self.inbound.awaited || self.outbound.has_writers()
    }

    /// Bytes that have left for the client.
    pub(crate) fn gone(&self) -> u64 {
        self.outbound.gone()
    }

    /// Gives memory back that is not needed, before the call waits.
    pub(crate) fn compact(&mut self) {
        self.inbound.compact();
    }

    /// What the handler has written so far is seen.
    pub(crate) fn outbound_seen(&mut self) -> &mut Outbound {
        self.transport.outbound_changed = false;
        &mut self.outbound
    }

    /// Ends the transport's turn and leaves its waker, unless something has changed that it has
    /// not seen: then it is `false` and the transport has to look again.
    pub(crate) fn rest(&mut self, cx: &mut Context<'_>) -> bool {
        let transport = &mut self.transport;
        if transport.inbound_changed || transport.outbound_changed {
            return false;
        }
        transport.running = false;
        set_waker(&mut transport.waker, cx);
        true
    }
}

impl Transport {
    fn notify(&mut self) {
        if !self.running
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

fn set_waker(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::inbound::READ_AHEAD;
    use super::*;
    use crate::grpc::frame::HEADER_LEN;

    fn terms(receive_limit: usize) -> Terms {
        Terms {
            receive_limit,
            send_limit: 1 << 20,
            encoding: None,
            inflate_budget: None,
            compressor: None,
        }
    }

    fn exchange() -> Arc<Exchange> {
        Exchange::new(terms(100))
    }

    fn noop() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn a_writer_waits_while_a_full_frame_is_buffered() {
        let exchange = exchange();
        assert!(exchange.poll_nearly_sent(&mut noop()).is_ready());
        exchange.write(&"x".repeat(COALESCE), true).unwrap();
        assert!(exchange.poll_nearly_sent(&mut noop()).is_pending());
        let mut state = exchange.lock();
        state.outbound.split(10);
        assert_eq!(state.outbound.take_writers().count(), 1);
        drop(state);
        assert!(exchange.poll_nearly_sent(&mut noop()).is_ready());
    }

    #[test]
    fn a_cut_message_is_known() {
        let exchange = exchange();
        exchange.write(&"abc".to_string(), true).unwrap();
        exchange.write(&"defg".to_string(), true).unwrap();
        let outbound = &mut exchange.lock().outbound;
        let (first, second) = (HEADER_LEN + 5, HEADER_LEN + 6);
        for (count, cut) in [(1, true), (first - 1, false), (first - first + 3, true)] {
            outbound.split(count);
            assert_eq!(outbound.inside_message(), cut);
        }
        outbound.split(second - 3);
        assert!(!outbound.inside_message());
        assert_eq!(outbound.buffered(), 0);
    }

    #[test]
    fn a_compressed_message_without_encoding_is_internal() {
        let exchange = exchange();
        exchange.lock().inbound.receive(Bytes::from_static(&[1, 0, 0, 0, 0]));
        let Poll::Ready(Err(status)) = exchange.poll_received(&mut noop()) else { panic!() };
        assert_eq!(status.code(), crate::Code::Internal);
    }

    #[test]
    fn an_error_of_the_input_stays() {
        let exchange = exchange();
        exchange.lock().inbound.receive(Bytes::from_static(&[7, 0, 0, 0, 0]));
        for _ in 0..2 {
            assert!(matches!(exchange.poll_received(&mut noop()), Poll::Ready(Err(_))));
        }
    }

    #[test]
    fn after_an_error_what_comes_is_not_kept_and_its_window_is_given_back() {
        let exchange = exchange();
        let message = Bytes::from_static(&[0; HEADER_LEN]);
        exchange.lock().inbound.receive(message.clone());
        exchange.fail_input(&Status::internal("first"));
        for _ in 0..2 {
            let mut state = exchange.lock();
            state.inbound.receive(message.clone());
            assert_eq!(state.held(), 0);
            assert!(state.release() > 0);
            drop(state);
            let Poll::Ready(Err(status)) = exchange.poll_received(&mut noop()) else { panic!() };
            assert_eq!(status.message(), "first");
        }
        exchange.end(Status::cancelled("over"));
        exchange.lock().inbound.receive(message);
        assert_eq!(exchange.lock().held(), 0);
    }

    #[test]
    fn the_end_of_a_call_is_seen_by_all_and_the_first_reason_counts() {
        let exchange = exchange();
        let mut watcher = pin!(exchange.until_ended());
        assert!(watcher.as_mut().poll(&mut noop()).is_pending());
        exchange.end(Status::cancelled("first"));
        exchange.end(Status::unavailable("second"));
        assert_eq!(watcher.poll(&mut noop()), Poll::Ready(Status::cancelled("first")));
        assert!(matches!(exchange.poll_received(&mut noop()), Poll::Ready(Err(_))));
        assert!(matches!(exchange.poll_nearly_sent(&mut noop()), Poll::Ready(Err(_))));
        assert!(exchange.write(&(), true).is_err());
    }

    #[test]
    fn a_change_while_the_transport_runs_keeps_it_running() {
        let exchange = exchange();
        exchange.lock().begin();
        exchange.write(&(), true).unwrap();
        assert!(!exchange.lock().rest(&mut noop()));
        assert_eq!(exchange.lock().outbound_seen().buffered(), HEADER_LEN);
        assert!(exchange.lock().rest(&mut noop()));
    }

    #[test]
    fn a_response_is_held_as_a_whole_until_all_of_it_is_sent() {
        let exchange = exchange();
        exchange.write(&"x".repeat(100_000), true).unwrap();
        let mut state = exchange.lock();
        assert!((100_000..200_000).contains(&state.held()));
        state.outbound.split(99_999);
        assert!(state.held() >= 100_000);
        let rest = state.outbound.buffered();
        state.outbound.split(rest);
        assert_eq!(state.held(), 0);
    }

    #[test]
    fn what_was_received_is_not_held_beyond_the_end_of_the_call() {
        let exchange = exchange();
        exchange.lock().inbound.receive(Bytes::from_static(&[0, 0, 0, 0, 9, 1]));
        assert!(exchange.poll_received(&mut noop()).is_pending());
        assert!(exchange.lock().held() > 0);
        exchange.end(Status::cancelled("over"));
        assert_eq!(exchange.lock().held(), 0);
    }

    #[test]
    fn window_is_given_back_as_the_handler_reads() {
        let exchange = Exchange::new(terms(READ_AHEAD));
        let message = [&[0, 0, 0, 0, 100][..], &[0; 100]].concat();
        let count = 2 * READ_AHEAD / message.len();
        let mut state = exchange.lock();
        state.begin();
        state.inbound.receive(message.repeat(count).into());
        assert_eq!(state.release(), READ_AHEAD);
        assert_eq!(state.release(), 0);
        drop(state);
        assert!(exchange.poll_received(&mut noop()).is_ready());
        assert!(!exchange.lock().rest(&mut noop()));
        let batch = exchange.lock().release();
        assert!((message.len()..COALESCE + message.len()).contains(&batch), "{batch}");
        assert!(exchange.lock().rest(&mut noop()));
    }
}

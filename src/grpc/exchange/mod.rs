//! The state that the two sides of one call share: the transport, and the handler with its
//! interceptors. It does no I/O and does not depend on HTTP/2, so a test can drive a call as well.
//!
//! ```text
//!   transport                        Exchange                         handler
//!   DATA      -- receive() ------->  inbound:  FrameDecoder --------> poll_received()
//!   DATA      <-- split() ---------  outbound: encoded messages <---- poll_send(), respond()
//!   RST, deadline --- end() ------>  end: Option<End> --------------> CallBoundary, CallHandle
//! ```

mod hooks;
mod inbound;
mod outbound;
mod receiving;
mod sending;
mod state;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};

use tokio::sync::Notify;
use tokio::time::Instant;

use self::hooks::Hooks;
pub(crate) use self::inbound::Inbound;
pub(crate) use self::outbound::Outbound;
pub(crate) use self::receiving::Received;
use self::state::State;
use super::compression::{Compressor, Encoding};
use super::inflate_budget::InflateBudget;
use super::method::Method;
use super::status::Status;

/// A function that gets each message that the handler receives or sends.
pub(crate) type Observer = Box<dyn FnMut(MessageEvent<'_>) + Send>;

/// A function that decides whether the handler may receive one more message.
pub(crate) type Gate = Box<dyn FnMut() -> Result<(), Status> + Send>;

/// A message of a call, as encoded and uncompressed bytes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum MessageEvent<'a> {
    /// A message from the client, before it is decoded.
    Received(&'a [u8]),
    /// A message from the handler, before it is sent.
    Sent(&'a [u8]),
}

/// The parameters of a call. They do not change once the call has begun.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) method: &'static Method,
    /// The time at which the call ends with DEADLINE_EXCEEDED.
    pub(crate) deadline: Option<Instant>,
    /// The longest message that is received, in bytes.
    pub(crate) receive_limit: usize,
    /// The longest message that is sent, in bytes.
    pub(crate) send_limit: usize,
    /// The encoding of compressed requests.
    pub(crate) encoding: Option<Encoding>,
    /// The limit on decompression; `None` is no limit.
    pub(crate) inflate_budget: Option<Arc<InflateBudget>>,
    /// The encoding of compressed responses.
    pub(crate) compressor: Option<Compressor>,
}

pub(crate) struct Exchange {
    terms: Terms,
    state: Mutex<State>,
    /// Whether the call has ended, to know it without the lock.
    ended: AtomicBool,
    /// Whether the transport was dropped.
    abandoned: AtomicBool,
    /// Notified when the call ends or the server begins to drain. Unset until a task waits for
    /// that.
    changed: OnceLock<Notify>,
    /// Outside of `state`, so that an observer may use the call.
    observers: Hooks<Observer>,
    gates: Hooks<Gate>,
    /// Messages that the handler has received. Only one reader adds to it, so a load and a store
    /// suffice.
    received: AtomicU64,
    /// Whether the last message that the handler received arrived compressed.
    compressed: AtomicBool,
    /// The caller's name, for logs. An interceptor sets it.
    principal: OnceLock<Box<str>>,
}

impl Exchange {
    pub(crate) fn new(terms: Terms) -> Arc<Self> {
        Self::build(terms, false)
    }

    /// An exchange without a transport. Sent messages stay in the buffer, without a limit.
    pub(crate) fn detached(method: &'static Method) -> Arc<Self> {
        let terms = Terms {
            method,
            deadline: None,
            receive_limit: usize::MAX,
            send_limit: usize::MAX,
            encoding: None,
            inflate_budget: None,
            compressor: None,
        };
        Self::build(terms, true)
    }

    fn build(terms: Terms, unbounded: bool) -> Arc<Self> {
        let inbound = Inbound::new(terms.receive_limit);
        let outbound = Outbound::new(&terms, unbounded);
        Arc::new(Self {
            terms,
            state: Mutex::new(State::new(inbound, outbound)),
            ended: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            changed: OnceLock::new(),
            observers: Hooks::new(),
            gates: Hooks::new(),
            received: AtomicU64::new(0),
            compressed: AtomicBool::new(false),
            principal: OnceLock::new(),
        })
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock, for example in a message's own code, ends only its own call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the status with which the call has ended for the handler, if it has.
    pub(crate) fn ended(&self) -> Option<Status> {
        if self.ended.load(Ordering::Acquire) { self.lock().ended().cloned() } else { None }
    }

    /// Whether the transport was dropped. If so, the handler must not be polled again, because it
    /// may be outside of any task.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Ends the call for the handler. Only the first status counts.
    pub(crate) fn end(&self, status: Status) {
        let mut state = self.lock();
        let woken = state.end(status);
        self.ended.store(true, Ordering::Release);
        drop(state);
        if let Some(woken) = woken {
            self.notify_changed();
            woken.for_each(Waker::wake);
        }
    }

    /// Ends the call because its transport is being dropped.
    pub(crate) fn abandon(&self, status: Status) {
        self.abandoned.store(true, Ordering::Release);
        self.end(status);
    }

    /// Ends a call whose response is complete. Returns the bytes of window that this frees.
    pub(crate) fn close(self: &mut Arc<Self>) -> usize {
        // Usually the handler is dropped already, so no task has to be notified.
        if let Some(exchange) = Arc::get_mut(self) {
            return exchange.state.get_mut().unwrap_or_else(PoisonError::into_inner).close();
        }
        self.end(Status::cancelled("the call is over"));
        self.lock().release()
    }

    /// Waits until the call has ended for the handler. Returns the status.
    pub(crate) async fn until_ended(&self) -> Status {
        // Checked under the lock, because the end must not slip between the check and the wait.
        self.until(|| self.lock().ended().cloned()).await
    }

    /// Waits until the server drains or the call has ended. Returns the status to end with.
    pub(crate) async fn until_draining(&self) -> Status {
        self.until(|| {
            let state = self.lock();
            let drains = || Status::unavailable("the server is shutting down");
            state.ended().cloned().or_else(|| state.is_draining().then(drains))
        })
        .await
    }

    async fn until<T>(&self, check: impl Fn() -> Option<T>) -> T {
        let notify = self.changed.get_or_init(Notify::new);
        let mut changed = pin!(notify.notified());
        loop {
            // Registers first and checks then, so that no change in between is missed.
            changed.as_mut().enable();
            if let Some(seen) = check() {
                return seen;
            }
            changed.as_mut().await;
            changed.set(notify.notified());
        }
    }

    /// Announces the server's drain to the tasks that wait for it.
    pub(crate) fn drain(&self) {
        self.lock().drain();
        self.notify_changed();
    }

    /// Notifies the waiting tasks. A task that begins to wait meanwhile checks the state itself.
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

    /// Passes a received message to the observers.
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

    /// Checks whether the handler may receive the next message. An error ends the input.
    pub(crate) fn admit(&self) -> Result<(), Status> {
        if self.gates.is_empty() {
            return Ok(());
        }
        let admitted = self.gates.all().iter_mut().try_for_each(|gate| gate());
        admitted.inspect_err(|status| self.fail_input(status))
    }

    /// Returns the number of messages that the handler has received.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether the last message received arrived compressed.
    pub(crate) fn compressed(&self) -> bool {
        self.compressed.load(Ordering::Relaxed)
    }

    pub(crate) fn principal(&self) -> &OnceLock<Box<str>> {
        &self.principal
    }

    /// Returns the number of messages that the handler has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.lock().outbound.sent()
    }

    /// Replaces the handler's charge of `before` bytes by one of `after`.
    pub(crate) fn charge(&self, before: usize, after: usize) {
        self.lock().charge(before, after);
    }
}

fn set_waker(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

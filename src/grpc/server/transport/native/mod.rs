//! HTTP/2 by the engine of [`crate::http2`]: its socket, its timers and its wakers.

mod stream;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use self::stream::NativeStream;
use super::closing::ClosingSocket;
use super::first_bytes::FirstBytes;
use super::read_gate::ReadGate;
use super::write_buffer::{self, WriteBuffer};
use super::{Head, Pings, Transport};
use crate::grpc::call::Peer;
use crate::grpc::server::connection::context::ConnectionContext;
use crate::grpc::server::policy::enforcement::{EnforcementPolicy, GoAway};
use crate::grpc::server::policy::shared_state::SharedState;
use crate::grpc::server::settings::Settings;
use crate::grpc::server::stats::Meter;
use crate::http2::connection::{Closed, Config, Connection, Key};
use crate::http2::error_code::ErrorCode;
use crate::http2::policy::{ObservedFrame, Policy, Violation};

/// Bytes that are read at a time.
const READ: usize = 64 * 1024;

/// While the client does not accept this much output, nothing more is read. So answers to PING and
/// SETTINGS frames cannot fill the memory.
const UNWRITTEN_LIMIT: usize = 64 * 1024;

/// A connection without streams does not keep room for more wakers than this.
const KEPT_WAKERS: usize = 16;

thread_local! {
    /// The bytes of one read. The engine copies them, so idle connections need no buffer.
    static INPUT: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// A connection of the engine.
pub(crate) struct Native<T> {
    io: T,
    shared: Arc<Mutex<Shared>>,
    /// Bytes that were read when the turn was over. The next turn begins with them.
    left: Vec<u8>,
    /// Whether the client does not accept the output.
    blocked: bool,
    /// Whether nothing was read because of that, or because calls have not read enough.
    held_back: bool,
    first_bytes: FirstBytes,
    read_gate: ReadGate,
    meter: Arc<Meter>,
    shared_state: Arc<SharedState>,
    /// For the log.
    peer: Arc<Peer>,
}

/// The engine, which the connection shares with its streams. All of them belong to one task, so the
/// lock is never contended.
struct Shared {
    engine: Connection<EnforcementPolicy>,
    /// The wakers of the streams that wait for an event, by the index of their keys.
    wakers: Vec<Option<Waker>>,
    connection: Option<Waker>,
}

impl Shared {
    fn register(&mut self, key: Key, waker: &Waker) {
        self.engine.watch(key);
        let index = key.index();
        if self.wakers.len() <= index {
            self.wakers.resize(index + 1, None);
        }
        match &mut self.wakers[index] {
            Some(registered) => registered.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
    }

    /// Passes bytes to the engine until the turn is over. Returns the number of bytes.
    fn receive(&mut self, bytes: &[u8], shared_state: &SharedState) -> usize {
        let now = Instant::now();
        self.engine.policy().input_arrived(now);
        let count = self.engine.receive(bytes, now.into_std());
        shared_state.set_header_limit(self.engine.header_limit());
        self.wake_streams();
        count
    }

    /// Wakes the streams that have changed.
    fn wake_streams(&mut self) {
        while let Some(key) = self.engine.next_event() {
            if let Some(waker) = self.wakers.get_mut(key.index()).and_then(Option::take) {
                waker.wake();
            }
        }
    }

    /// Whether nothing more is read for now. `blocked` is whether the client does not accept the
    /// output.
    fn holds_back(&mut self, blocked: bool) -> bool {
        self.engine.is_full() || (blocked && self.engine.output().len() >= UNWRITTEN_LIMIT)
    }

    fn finish(&mut self, key: Key) {
        self.engine.finish(key);
        if let Some(waker) = self.wakers.get_mut(key.index()) {
            *waker = None;
        }
        if self.wakers.len() > KEPT_WAKERS && self.engine.is_idle() {
            self.wakers = Vec::new();
        }
        if self.engine.is_shut_down()
            && let Some(connection) = &self.connection
        {
            connection.wake_by_ref();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: AsyncRead + AsyncWrite + Unpin> Native<T> {
    fn new(io: T, context: &ConnectionContext) -> Self {
        let engine = Connection::new(
            config(&context.settings),
            context.enforcement_policy(),
            Instant::now().into_std(),
        );
        Self {
            io,
            shared: Arc::new(Mutex::new(Shared { engine, wakers: Vec::new(), connection: None })),
            left: Vec::new(),
            blocked: false,
            held_back: false,
            first_bytes: FirstBytes::new(context.is_over_tls()),
            read_gate: ReadGate::default(),
            meter: context.meter.clone(),
            shared_state: context.shared_state.clone(),
            peer: context.peer.clone(),
        }
    }

    /// Ready when the handshake is complete, with whether it has succeeded.
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if lock(&self.shared).engine.is_established() {
                return Poll::Ready(true);
            }
            if !self.first_bytes.are_awaited() {
                self.write(cx);
            }
            if ready!(self.poll_read(cx)).is_err() {
                self.lose();
            }
            if lock(&self.shared).engine.closed().is_some() {
                return Poll::Ready(false);
            }
        }
    }

    /// Ends the streams, because the socket is closed.
    fn lose(&self) {
        let mut shared = lock(&self.shared);
        shared.engine.lose();
        shared.wake_streams();
    }

    /// Passes bytes to the engine: those that are left of the last read, or else those of a new one.
    ///
    /// # Errors
    /// The connection is closed.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, shared, left, first_bytes, read_gate, meter, shared_state, .. } = self;
        let shared = &mut *lock(shared);
        ready!(read_gate.poll(shared.engine.policy(), cx))?;
        if first_bytes.poll_timed_out(cx) {
            let _ = poll_write(io, shared, meter, cx)?;
        }
        if !left.is_empty() {
            let count = shared.receive(left, shared_state);
            left.drain(..count);
            if left.is_empty() {
                *left = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        INPUT.with_borrow_mut(|input| {
            let mut buf = ReadBuf::new(input);
            ready!(Pin::new(io).poll_read(cx, &mut buf))?;
            let received = buf.filled();
            meter.received(received.len());
            if received.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Some(other_protocol) = first_bytes.received(received) {
                // Replaces the SETTINGS.
                shared.engine.output().replace(other_protocol.answer());
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            let count = shared.receive(received, shared_state);
            left.extend_from_slice(&received[count..]);
            Poll::Ready(Ok(()))
        })
    }
}

impl<T> Pings for Native<T> {
    fn ping(&mut self) -> bool {
        lock(&self.shared).engine.ping();
        true
    }

    fn poll_pong(&mut self, _: &mut Context<'_>) -> Poll<()> {
        // The input of an acknowledgement starts a turn, which polls this again.
        if lock(&self.shared).engine.take_pong() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for Native<T> {
    type Io = T;
    type Stream = NativeStream;

    async fn handshake(io: T, context: &ConnectionContext) -> Option<Self> {
        let mut native = Self::new(io, context);
        if poll_fn(|cx| native.poll_handshake(cx)).await {
            return Some(native);
        }
        match native.first_bytes.other_protocol() {
            Some(other_protocol) => other_protocol.log(&native.peer),
            None => {
                let closed = lock(&native.shared).engine.closed();
                tracing::debug!(peer = %native.peer, ?closed, "HTTP/2 handshake failed");
            }
        }
        native.close().await;
        None
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Head, NativeStream)>> {
        loop {
            let mut shared = lock(&self.shared);
            if let Some((key, parts)) = shared.engine.next_request() {
                drop(shared);
                let stream = NativeStream::new(key, self.shared.clone());
                return Poll::Ready(Some((Head::Shared(parts), stream)));
            }
            if let Some(closed) = shared.engine.closed() {
                tracing::debug!(peer = %self.peer, ?closed, "connection failed");
                return Poll::Ready(None);
            }
            if shared.engine.is_shut_down() {
                // An error of the socket closes the connection too.
                let _ = ready!(poll_write(&mut self.io, &mut shared, &self.meter, cx));
                return Poll::Ready(None);
            }
            if !shared.connection.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                shared.connection = Some(cx.waker().clone());
            }
            if shared.holds_back(self.blocked) {
                self.held_back = true;
                return Poll::Pending;
            }
            drop(shared);
            if ready!(self.poll_read(cx)).is_err() {
                self.lose();
                return Poll::Ready(None);
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) {
        let shared = &mut *lock(&self.shared);
        let written = poll_write(&mut self.io, shared, &self.meter, cx);
        self.blocked = written.is_pending();
        if self.held_back && !shared.holds_back(self.blocked) {
            self.held_back = false;
            cx.waker().wake_by_ref();
        }
        // After an error the next read fails too, and closes the connection.
        shared.engine.unblock();
        shared.wake_streams();
    }

    fn check_policy(&mut self, calls: usize, refused: u32) -> Result<Instant, GoAway> {
        lock(&self.shared).engine.policy().begin_turn(calls, refused)
    }

    fn has_failed(&self) -> bool {
        matches!(lock(&self.shared).engine.closed(), Some(Closed::Error(_)))
    }

    fn graceful_shutdown(&mut self) {
        lock(&self.shared).engine.shut_down();
    }

    fn go_away(&mut self, code: ErrorCode, debug: &'static str) {
        lock(&self.shared).engine.go_away(code, debug);
    }

    async fn close(self) {
        let mut unwritten = WriteBuffer::default();
        unwritten.pending().put(lock(&self.shared).engine.output());
        ClosingSocket { io: self.io, unwritten, meter: self.meter }.linger().await;
    }
}

/// Writes the output. Ready when all of it is written.
fn poll_write<T: AsyncWrite + Unpin>(
    io: &mut T,
    shared: &mut Shared,
    meter: &Meter,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let written = write_buffer::poll_write(io, shared.engine.output(), meter, cx);
    shared.engine.written();
    written
}

fn config(settings: &Settings) -> Config {
    Config {
        max_concurrent_streams: settings.max_concurrent_streams,
        max_header_list_size: settings.max_header_list_size,
        stream_window: settings.stream_window,
        connection_window: settings.connection_window,
        max_connection_window: settings.max_connection_window(),
    }
}

impl Policy for EnforcementPolicy {
    fn received(&mut self, frame: ObservedFrame) -> Result<(), Violation> {
        Self::received(self, frame);
        if self.go_away().is_some() { Err(Violation) } else { Ok(()) }
    }

    fn sent(&mut self, frame: ObservedFrame) {
        Self::sent(self, frame);
    }

    fn turn_is_over(&self) -> bool {
        Self::turn_is_over(self)
    }
}

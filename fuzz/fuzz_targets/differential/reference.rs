//! The crate h2 over a socket in memory, and the same calls. Nothing waits: a turn polls until
//! nothing changes.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use balafon::http2_engine::Limits;
use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::grammar::Action;
use crate::outgoing::{Next, Outgoing};
use crate::seen::{Closed, End, Request, Seen, Wire};

pub struct ReferencePeer {
    socket: Socket,
    state: State,
    releases: bool,
    calls: BTreeMap<u32, Call>,
    pub wire: Wire,
    /// The streams that the server has reset.
    resets: BTreeSet<u32>,
}

enum State {
    Handshake(Handshake<Socket, Bytes>),
    Open(Connection<Socket, Bytes>),
    Closed(Closed),
}

struct Call {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
    outgoing: Outgoing,
    complete: bool,
    failed: bool,
}

impl ReferencePeer {
    pub fn new(limits: Limits, releases: bool) -> Self {
        let socket = Socket::default();
        // As the transport of the server sets them, but without limits that count or measure time.
        let handshake = Builder::new()
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.header_list)
            .initial_window_size(limits.stream_window)
            .initial_connection_window_size(limits.connection_window)
            .max_send_buffer_size(1 << 30)
            .max_concurrent_reset_streams(usize::MAX)
            .reset_stream_duration(Duration::from_secs(3600))
            .data_frame_budget(usize::MAX)
            .max_local_error_reset_streams(None)
            .handshake(socket.clone());
        Self {
            socket,
            state: State::Handshake(handshake),
            releases,
            calls: BTreeMap::new(),
            wire: Wire::new(limits.stream_window),
            resets: BTreeSet::new(),
        }
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        self.socket.lock(|pipe| pipe.input.extend_from_slice(bytes));
    }

    pub fn act(&mut self, stream: u32, action: Action) {
        let Self { calls, .. } = self;
        let Some(call) = calls.get_mut(&stream) else { return };
        if !call.outgoing.plan(action) {
            return;
        }
        match action {
            Action::Headers(end) => {
                let mut response = Response::new(());
                *response.headers_mut() = super::response();
                // An error means that the stream has failed.
                call.send = call.respond.send_response(response, end).ok();
            }
            Action::Reset(code) => match &mut call.send {
                Some(send) => send.send_reset(Reason::from(code)),
                None => call.respond.send_reset(Reason::from(code)),
            },
            Action::Drop => {
                calls.remove(&stream);
            }
            Action::Data(..) | Action::Trailers => {}
        }
    }

    pub fn observe(&mut self) -> Seen {
        let mut seen = Seen::default();
        loop {
            let before = (self.socket.lock(|pipe| pipe.input.len()), seen.requests.len());
            self.poll(&mut seen);
            let output = self.socket.lock(|pipe| std::mem::take(&mut pipe.output));
            self.wire.receive(&output, &mut seen.sent);
            self.resets.extend(seen.sent.resets.iter().map(|(stream, _)| *stream));
            let mut sends = false;
            for (stream, call) in &mut self.calls {
                call.observe(*stream, self.releases, &mut seen);
                // h2 reports errors of the connection as resets too.
                if !matches!(self.state, State::Closed(_)) {
                    call.observe_reset(*stream, &self.resets, &mut seen);
                    sends |= call.send();
                }
            }
            let after = (self.socket.lock(|pipe| pipe.input.len()), seen.requests.len());
            if output.is_empty() && before == after && !sends {
                break;
            }
        }
        self.calls.retain(|_, call| !(call.failed || (call.complete && call.outgoing.done)));
        if let State::Closed(closed) = self.state {
            // After the client's GOAWAY h2 ends with the client's code.
            let own = seen.sent.go_aways.last().filter(|code| **code != 0);
            seen.closed = Some(own.map_or(closed, |code| Closed::Error(*code)));
        }
        seen
    }

    fn poll(&mut self, seen: &mut Seen) {
        let cx = &mut Context::from_waker(Waker::noop());
        loop {
            let error = match &mut self.state {
                State::Handshake(handshake) => match Pin::new(handshake).poll(cx) {
                    Poll::Ready(Ok(connection)) => {
                        self.state = State::Open(connection);
                        continue;
                    }
                    Poll::Ready(Err(error)) => Some(error),
                    Poll::Pending => return,
                },
                State::Open(connection) => match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        let (parts, body) = request.into_parts();
                        let stream = respond.stream_id().as_u32();
                        seen.requests.push(Request::new(stream, &parts));
                        self.calls.insert(stream, Call::new(body, respond));
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => Some(error),
                    Poll::Ready(None) => None,
                    Poll::Pending => return,
                },
                State::Closed(_) => return,
            };
            let own = error.filter(|error| !error.is_remote());
            self.state = State::Closed(match own {
                Some(error) => Closed::Error(error.reason().map_or(u32::MAX, u32::from)),
                None => Closed::Gracefully,
            });
        }
    }
}

impl Call {
    fn new(body: RecvStream, respond: SendResponse<Bytes>) -> Self {
        let outgoing = Outgoing::default();
        Self { body, respond, send: None, outgoing, complete: false, failed: false }
    }

    fn observe(&mut self, stream: u32, releases: bool, seen: &mut Seen) {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut taken = 0;
        while !self.complete && !self.failed {
            match self.body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    if !data.is_empty() {
                        seen.data.entry(stream).or_default().extend_from_slice(&data);
                    }
                    taken += data.len();
                }
                Poll::Ready(Some(Err(error))) => {
                    self.failed = true;
                    if error.is_reset() {
                        let code = error.reason().map_or(u32::MAX, u32::from);
                        let is_client = error.is_remote();
                        let end = if is_client { End::ClientReset(code) } else { End::ServerReset };
                        seen.ends.insert((stream, end));
                    }
                }
                Poll::Ready(None) => {
                    self.complete = true;
                    seen.ends.insert((stream, End::Complete));
                }
                Poll::Pending => break,
            }
        }
        if releases {
            let _ = self.body.flow_control().release_capacity(taken);
        }
    }

    fn observe_reset(&mut self, stream: u32, resets: &BTreeSet<u32>, seen: &mut Seen) {
        let cx = &mut Context::from_waker(Waker::noop());
        let reset = match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None if self.outgoing.done => Poll::Pending,
            None => self.respond.poll_reset(cx),
        };
        if !self.failed
            && let Poll::Ready(reset) = reset
        {
            self.failed = true;
            if let Ok(code) = reset {
                let end = End::ClientReset(u32::from(code));
                let end = if resets.contains(&stream) { End::ServerReset } else { end };
                seen.ends.insert((stream, end));
            }
        }
    }

    /// Sends as much as the windows permit. Returns whether that is anything.
    fn send(&mut self) -> bool {
        let Some(send) = &mut self.send else { return false };
        let mut sends = false;
        while !self.failed {
            match self.outgoing.next() {
                Next::Data(0, _) => {
                    let _ = send.send_data(Bytes::new(), true);
                    self.outgoing.sent_data(0);
                }
                Next::Data(left, end) => {
                    send.reserve_capacity(left);
                    let count = send.capacity().min(left);
                    if count == 0 {
                        break;
                    }
                    let _ = send.send_data(vec![0; count].into(), end && count == left);
                    self.outgoing.sent_data(count);
                }
                Next::Trailers => {
                    let _ = send.send_trailers(HeaderMap::new());
                    self.outgoing.done = true;
                }
                Next::Nothing => break,
            }
            sends = true;
        }
        sends
    }
}

/// The server's end of a connection in memory.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Pipe>>);

#[derive(Default)]
struct Pipe {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Socket {
    fn lock<R>(&self, f: impl FnOnce(&mut Pipe) -> R) -> R {
        f(&mut self.0.lock().expect("one thread uses the socket"))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.lock(|pipe| {
            if pipe.input.is_empty() {
                return Poll::Pending;
            }
            let count = buf.remaining().min(pipe.input.len());
            buf.put_slice(&pipe.input[..count]);
            pipe.input.drain(..count);
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lock(|pipe| pipe.output.extend_from_slice(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

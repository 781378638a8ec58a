use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Extensions, Method, Request, request};

use crate::cut::for_log;
use crate::grpc::call::{Call, CallParts, Outcome};
use crate::grpc::compression::Encodings;
use crate::grpc::exchange::{Exchange, Terms};
use crate::grpc::handler::BoxFuture;
use crate::grpc::head::{Rejection, RequestHead, accepts, require_te_trailers};
use crate::grpc::header_list::{fit, response, trailers, trailers_only};
use crate::grpc::method;
use crate::grpc::server::connection::context::ConnectionContext;
use crate::grpc::server::connection::linger::{Linger, StatedRequest};
use crate::grpc::server::connection::non_grpc::NonGrpcResponse;
use crate::grpc::server::policy::budget::Share;
use crate::grpc::server::policy::call_limits::{Limits, Progress, deadline_exceeded};
use crate::grpc::status::Status;

/// One call polls at most this often in one go before its neighbours get their turn: 128 KiB of
/// streamed messages.
const TURNS: usize = 8;

/// A client that resets a call after this time has a reason to, such as its deadline; before it, most
/// often an attacker's.
const PATIENCE: Duration = Duration::from_millis(10);

/// One RPC on its HTTP/2 stream: it carries bytes between h2 and the call's [`Exchange`], polls
/// the handler in between, and writes the end of the call, once.
///
/// ```text
///            outcome, nothing sent, an error: Trailers-Only
///          .------------------------------------------------.
///          |                                                v
///  Response ---> Body ------- outcome, buffer empty ----> Lingering ---> Closed
///     headers sent  |                                         until the request ends
///                   `-- stopped in the middle of a message -----------> Closed
///                                                            RST_STREAM(CANCEL)
/// ```
pub(crate) struct ServerCall {
    exchange: Arc<Exchange>,
    /// The call on its way through interceptors and handler.
    running: Option<BoxFuture<'static, Outcome>>,
    outcome: Option<Outcome>,
    body: RecvStream,
    /// Whether the client may still send.
    receiving: bool,
    reply: Reply,
    /// `None` if the answer need not wait for it.
    stated: Option<StatedRequest>,
    limits: Limits,
    method: &'static method::Method,
    /// For the client to know.
    accepted: Encodings,
    /// Bytes that the request metadata takes.
    head: usize,
    started: std::time::Instant,
    /// The client has given the call up.
    reset: bool,
    /// Messages that the handler had taken when the connection was last told of them.
    counted: u64,
    share: Share,
    context: Arc<ConnectionContext>,
}

/// How far the response has come.
enum Sent {
    /// The call is over on the wire.
    Everything,
    /// All that the handler has given, or the window allows.
    WhatIsThere,
    /// The same, and the handler waited for just that: it may go on at once.
    AndWaitedFor,
    /// The stream is gone, for this reason.
    Nothing(Status),
    /// The call cannot go on, for this reason.
    Refused(Status),
}

enum Reply {
    /// Nothing sent yet.
    Response(SendResponse<Bytes>),
    /// Headers sent.
    Body(SendStream<Bytes>),
    /// The call is over before all of its request has come.
    Lingering(Linger),
    Closed,
}

impl ServerCall {
    /// Starts a call that has arrived, if it is one.
    pub(crate) fn start(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        started: std::time::Instant,
        context: &Arc<ConnectionContext>,
    ) -> Result<Self, Box<NonGrpcResponse>> {
        let (mut parts, body) = request.into_parts();
        let strict = context.settings.require_te_trailers;
        let route = context.router.route(path(&parts));
        let (method, options) = (route.method, route.options(&context.settings.calls));
        let accepted = options.accepted();
        let parsed = RequestHead::parse_accepting(&parts, accepted).and_then(|head| match strict {
            true => require_te_trailers(&parts.headers).map(|()| head),
            false => Ok(head),
        });
        let (head, refusal) = match parsed {
            Ok(head) => (head, None),
            Err(Rejection::Status(status)) => (RequestHead::default(), Some(status)),
            Err(Rejection::NonGrpc(non_grpc)) => {
                let path = for_log(parts.uri.path());
                tracing::debug!(path = &*path, ?non_grpc, "not a gRPC call");
                let mut answer = non_grpc.into_response();
                if parts.method == Method::HEAD {
                    // RFC 9110, 9.3.2: an answer to it has no content.
                    answer.body_mut().clear();
                }
                return Err(Box::new(NonGrpcResponse::new(body, respond, answer)));
            }
        };
        let authority = authority(&mut parts);
        let path = path(&parts);
        let compression = options.compression.unwrap_or_default();
        let exchange = Exchange::new(Terms {
            receive_limit: options.receive_limit(),
            send_limit: options.send_limit(),
            encoding: head.encoding,
            inflate_budget: head.encoding.map(|_| context.inflate_budget.clone()),
            compressor: compression
                .choose(head.encoding, |encoding| accepts(&parts.headers, encoding)),
        });
        let limits = Limits::new(&options, method, head.timeout);
        if head.timeout.is_some_and(|timeout| timeout.is_zero()) {
            exchange.end(deadline_exceeded());
        }
        let (head, length) = head_size(&parts.headers);
        let stated = length.and_then(StatedRequest::new);
        let call = Call::new(CallParts {
            method,
            unknown_path: (path != method.path).then(|| path.into()),
            metadata: parts.headers.into(),
            peer: context.peer.clone(),
            started,
            deadline: limits.deadline(),
            extensions: Extensions::new(),
            spawned: context.spawned(&options).map(Box::new),
            authority,
            exchange: exchange.clone(),
        });
        Ok(Self {
            running: Some(match refusal {
                None => context.router.run(route, call),
                Some(status) => context.router.refuse(call, status),
            }),
            exchange,
            outcome: None,
            body,
            receiving: true,
            reply: Reply::Response(respond),
            stated,
            limits,
            method,
            accepted,
            head,
            started,
            reset: false,
            counted: 0,
            share: Share::new(&context.budgets),
            context: context.clone(),
        })
    }

    /// Ends the call now, for `reason`: the handler is dropped, what it had not sent is
    /// discarded, and the client gets the status if its stream is still able to carry it.
    pub(crate) fn stop(&mut self, reason: Status, cx: &mut Context<'_>) {
        self.exchange.end(reason.clone());
        self.run(cx);
        let outcome = self.outcome.get_or_insert_with(|| reason.clone().into());
        if outcome.status.is_ok() {
            outcome.status = reason;
        }
        let mut state = self.exchange.lock();
        let cut = state.outbound.inside_message();
        state.outbound.discard();
        drop(state);
        if let (true, Reply::Body(stream)) = (cut, &mut self.reply) {
            stream.send_reset(Reason::CANCEL);
            self.receiving = false;
        } else {
            let _ = self.transmit(cx);
        }
        self.close();
    }

    pub(crate) fn method(&self) -> &'static method::Method {
        self.method
    }

    /// Tells the handler that the server drains.
    pub(crate) fn drain(&self) {
        self.exchange.drain();
    }

    /// Polls the interceptors and the handler.
    fn run(&mut self, cx: &mut Context<'_>) {
        let Some(running) = &mut self.running else { return };
        self.context.polls(self.method);
        if let Poll::Ready(outcome) = running.as_mut().poll(cx) {
            self.running = None;
            self.outcome = Some(outcome);
        }
    }

    /// Takes what has arrived, all of it: h2 keeps account of small frames left with it, and takes
    /// a client that sends many to a slow handler for an attacker.
    fn receive(&mut self, cx: &mut Context<'_>) {
        if self.method.client_streaming {
            let received = self.exchange.received();
            let more = (received - self.counted) as u32;
            if more > 0 {
                self.context.tally.messages.add(more);
                self.counted = received;
            }
        }
        let mut state = self.exchange.lock();
        state.begin();
        let mut lost = None;
        while self.receiving
            && let Poll::Ready(received) = self.body.poll_data(cx)
        {
            match received {
                Some(Ok(chunk)) => state.inbound.receive(chunk),
                Some(Err(error)) => {
                    self.receiving = false;
                    self.reset |= error.is_reset() && error.is_remote();
                    let status = status_of(&error);
                    state.inbound.finish(Err(status.clone()));
                    lost = Some(status);
                }
                None => {
                    self.receiving = false;
                    state.inbound.finish(Ok(()));
                }
            }
        }
        // It fails only for a stream that is gone, and then poll_data says so.
        let taken = state.release();
        if taken > 0 {
            let _ = self.body.flow_control().release_capacity(taken);
        }
        let reader = state.inbound.take_reader();
        drop(state);
        // One that waits in this task is polled next anyway.
        wake_others(reader, cx);
        if let Some(status) = lost {
            self.exchange.end(status);
        }
    }

    /// Whether the answer, which is there, waits for the rest of the request.
    fn waits_for_request(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(stated) = &mut self.stated else { return false };
        let early = self.receiving && matches!(self.reply, Reply::Response(_));
        if self.outcome.is_none() || !early {
            return false;
        }
        // Nobody will read what comes.
        self.exchange.lock().inbound.discard();
        stated.poll_timeout(cx).is_pending()
    }

    /// Sends what may be sent.
    fn transmit(&mut self, cx: &mut Context<'_>) -> Sent {
        let header_limit = self.context.tally.header_limit();
        if let Some(outcome) = &mut self.outcome
            && let Err(over) = fit(outcome, header_limit)
        {
            tracing::warn!(path = self.method.path, "a call fails: {over}");
        }
        let mut state = self.exchange.lock();
        let outbound = state.outbound_seen();
        if let Reply::Response(respond) = &mut self.reply {
            let failed = self.outcome.as_ref().is_some_and(|outcome| !outcome.status.is_ok());
            if failed && !self.method.server_streaming {
                // The one message of a call that failed after all.
                outbound.discard();
            }
            if !outbound.wants_headers() {
                let no_headers = outbound.metadata.is_empty();
                if let Some(outcome) = self.outcome.take_if(|_| failed && no_headers) {
                    let _ = respond
                        .send_response(trailers_only(outcome, self.accepted, header_limit), true);
                    return Sent::Everything;
                }
                if self.outcome.is_none() {
                    return Sent::WhatIsThere;
                }
            }
            let encoding = outbound.compressor.map(|compressor| compressor.encoding);
            let metadata = std::mem::take(&mut outbound.metadata);
            let headers = match response(metadata, encoding, self.accepted, header_limit) {
                Ok(headers) => headers,
                Err(over) => {
                    tracing::warn!(path = self.method.path, "a call fails: {over}");
                    outbound.withdraw();
                    let Some(mut outcome) = self.outcome.take() else {
                        return Sent::Refused(Status::from(&over));
                    };
                    if outcome.status.is_ok() {
                        outcome.status = Status::from(&over);
                    }
                    let _ = respond
                        .send_response(trailers_only(outcome, self.accepted, header_limit), true);
                    return Sent::Everything;
                }
            };
            match respond.send_response(headers, false) {
                Ok(stream) => self.reply = Reply::Body(stream),
                Err(error) => {
                    outbound.discard();
                    let reset = respond.poll_reset(cx);
                    return Sent::Nothing(match reset {
                        Poll::Ready(Ok(reason)) => {
                            self.reset = true;
                            status_of_reset(reason)
                        }
                        _ => status_of(&error),
                    });
                }
            }
        }
        let Reply::Body(stream) = &mut self.reply else { return Sent::Everything };
        while outbound.buffered() > 0 {
            // Never more than is in hand: reserved and unused window would starve other streams.
            stream.reserve_capacity(outbound.buffered());
            let room = self.context.outlet.room();
            let count = stream.capacity().min(outbound.buffered()).min(room);
            if count > 0 {
                self.context.outlet.give(count);
                if stream.send_data(outbound.split(count), false).is_err() {
                    outbound.discard();
                }
                continue;
            }
            if room == 0 {
                self.context.outlet.wait(cx);
                break;
            }
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => outbound.discard(),
                Poll::Pending => break,
            }
        }
        let unsent = outbound.buffered();
        let writers: Vec<_> = outbound.take_writers().collect();
        drop(state);
        if let Some(outcome) = self.outcome.take_if(|_| unsent == 0) {
            let _ = stream.send_trailers(trailers(outcome, header_limit));
            return Sent::Everything;
        }
        if wake_others(writers, cx) { Sent::WhatIsThere } else { Sent::AndWaitedFor }
    }

    /// Watches, while the call waits, for what may end it from outside.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let reset = match &mut self.reply {
            Reply::Response(respond) => respond.poll_reset(cx),
            Reply::Body(stream) => stream.poll_reset(cx),
            Reply::Lingering(_) | Reply::Closed => Poll::Pending,
        };
        match reset {
            Poll::Ready(Ok(reason)) => {
                self.reset = true;
                return Poll::Ready(status_of_reset(reason));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(status_of(&error)),
            Poll::Pending => {}
        }
        let mut awaited = None;
        if self.limits.count_silence() {
            let state = self.exchange.lock();
            if state.awaits_client() {
                let (received, gone) = (self.exchange.received(), state.gone());
                awaited = Some(Progress { received, gone });
            }
        }
        self.limits.poll(self.receiving, awaited, cx)
    }

    fn close(&mut self) {
        let lingers = self.receiving && matches!(self.reply, Reply::Response(_) | Reply::Body(_));
        self.reply = if lingers { Reply::Lingering(Linger::new()) } else { Reply::Closed };
        // What has come and will not be read: the other calls want the window.
        let unread = self.exchange.close(Status::cancelled("the call is over"));
        if unread > 0 {
            let _ = self.body.flow_control().release_capacity(unread);
        }
    }

    /// After the end of the call: ready when the stream may be forgotten.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.reply {
            Reply::Lingering(linger) => linger.poll(&mut self.body, cx),
            _ => Poll::Ready(()),
        }
    }
}

/// Whoever drops a call, its interceptors see an outcome, and tasks that wait for its end wake.
impl Drop for ServerCall {
    fn drop(&mut self) {
        if self.reset && self.started.elapsed() >= PATIENCE {
            self.context.tally.waited.add(1);
        }
        if let (None, Reply::Closed | Reply::Lingering(_)) = (&self.running, &self.reply) {
            return;
        }
        self.exchange.abandon(Status::cancelled("the connection was dropped"));
        self.run(&mut Context::from_waker(Waker::noop()));
    }
}

/// Cancel safe in the sense of the connection: dropping it drops handler and stream.
impl Future for ServerCall {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if let Reply::Lingering(_) = this.reply {
            return this.poll_closed(cx);
        }
        for _ in 0..TURNS {
            this.receive(cx);
            this.run(cx);
            if this.waits_for_request(cx) {
                return Poll::Pending;
            }
            let sent = this.transmit(cx);
            if let Sent::Everything = sent {
                this.close();
                return this.poll_closed(cx);
            }
            if let Sent::Nothing(reason) = sent {
                this.receiving = false;
                this.stop(reason, cx);
                return Poll::Ready(());
            }
            if let Sent::Refused(reason) = sent {
                this.stop(reason, cx);
                return this.poll_closed(cx);
            }
            if let Poll::Ready(reason) = this.poll_stopped(cx) {
                this.stop(reason, cx);
                return this.poll_closed(cx);
            }
            let mut state = this.exchange.lock();
            state.compact();
            if let Err(exhausted) = this.share.settle(this.head + state.held()) {
                drop(state);
                this.stop(exhausted, cx);
                return this.poll_closed(cx);
            }
            if let Sent::WhatIsThere = sent
                && state.rest(cx)
            {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Wakes a part of the handler that waits in a task of its own, and says whether there was none in
/// this task, which it does not wake.
fn wake_others(wakers: impl IntoIterator<Item = Waker>, cx: &Context<'_>) -> bool {
    let mut none_here = true;
    for waker in wakers {
        if waker.will_wake(cx.waker()) {
            none_here = false;
        } else {
            waker.wake();
        }
    }
    none_here
}

fn path(parts: &request::Parts) -> &str {
    parts.uri.path_and_query().map_or("", |path| path.as_str())
}

/// The `:authority`; else the `context`, which does not stay with the metadata if both came.
fn authority(parts: &mut request::Parts) -> Option<Authority> {
    match parts.uri.authority() {
        Some(authority) => {
            parts.headers.remove(HOST);
            Some(authority.clone())
        }
        None => parts.headers.get(HOST)?.to_str().ok()?.parse().ok(),
    }
}

/// Bytes of memory that a header list takes: its text; the table's entries, with room for more; and
/// those of names that come again, in a list that doubles as it grows. And the `content-length`,
/// which it passes.
fn head_size(headers: &HeaderMap) -> (usize, Option<&HeaderValue>) {
    const ENTRY: usize = 112;
    const REPEATED: usize = 144;
    let (mut text, mut length) = (0, None);
    for (name, value) in headers {
        text += name.as_str().len() + value.len();
        if name == CONTENT_LENGTH {
            length = Some(value);
        }
    }
    let repeated = headers.len() - headers.keys_len();
    (text + headers.capacity() * ENTRY + repeated * REPEATED, length)
}

/// PROTOCOL-HTTP2, "Errors".
fn status_of_reset(reason: Reason) -> Status {
    let text = format!("the client reset the stream: {reason}");
    match reason {
        Reason::CANCEL => Status::cancelled(text),
        Reason::REFUSED_STREAM => Status::unavailable(text),
        Reason::ENHANCE_YOUR_CALM => Status::resource_exhausted(text),
        Reason::INADEQUATE_SECURITY => Status::permission_denied(text),
        _ => Status::internal(text),
    }
}

fn status_of(error: &h2::Error) -> Status {
    match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => status_of_reset(reason),
        Some(_) if error.is_library() => {
            Status::internal(format!("the client broke HTTP/2: {error}"))
        }
        _ => Status::cancelled("the connection was lost"),
    }
}

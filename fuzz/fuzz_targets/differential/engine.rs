//! The engine, and calls that use it as the native transport does.

use std::collections::BTreeMap;

use balafon::http2_engine::{Cause, Engine, Handle, Input, Limits};
use http::HeaderMap;

use crate::grammar::Action;
use crate::outgoing::{Next, Outgoing};
use crate::seen::{Closed, End, Request, Seen, Wire};

pub struct EnginePeer {
    engine: Engine,
    releases: bool,
    calls: BTreeMap<u32, Call>,
    pub wire: Wire,
}

struct Call {
    handle: Handle,
    outgoing: Outgoing,
    /// Whether the request is complete.
    complete: bool,
    failed: bool,
    /// Whether the engine has reported a change since the last observation.
    reported: bool,
}

impl EnginePeer {
    pub fn new(limits: Limits, releases: bool) -> Self {
        Self {
            engine: Engine::new(limits),
            releases,
            calls: BTreeMap::new(),
            wire: Wire::new(limits.stream_window),
        }
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        self.engine.receive(bytes);
        self.collect_events();
    }

    fn collect_events(&mut self) {
        while let Some(handle) = self.engine.next_event() {
            if let Some(call) = self.calls.values_mut().find(|call| call.handle == handle) {
                call.reported = true;
            }
        }
    }

    pub fn act(&mut self, stream: u32, action: Action) {
        let Self { engine, calls, .. } = self;
        let Some(call) = calls.get_mut(&stream) else { return };
        if !call.outgoing.plan(action) {
            return;
        }
        // The call itself has caused what follows.
        call.reported = true;
        match action {
            Action::Headers(end) => engine.send_headers(call.handle, &super::response(), end),
            Action::Reset(code) => engine.reset(call.handle, code),
            Action::Drop => {
                engine.finish(call.handle);
                calls.remove(&stream);
            }
            Action::Data(..) | Action::Trailers => {}
        }
        self.collect_events();
    }

    pub fn error(&self) -> Option<&'static str> {
        self.engine.error().map(|(_, reason)| reason)
    }

    pub fn observe(&mut self) -> Seen {
        let mut seen = Seen::default();
        while let Some((stream, handle, parts)) = self.engine.next_request() {
            seen.requests.push(Request::new(stream, &parts));
            let outgoing = Outgoing::default();
            let call = Call { handle, outgoing, complete: false, failed: false, reported: true };
            self.calls.insert(stream, call);
        }
        for (stream, call) in &mut self.calls {
            call.observe(*stream, &mut self.engine, self.releases, &mut seen);
        }
        loop {
            let output = self.engine.take_output();
            self.wire.receive(&output, &mut seen.sent);
            self.collect_events();
            let mut waiting = self.calls.values_mut().filter(|call| call.reported).peekable();
            if output.is_empty() && waiting.peek().is_none() {
                break;
            }
            waiting.for_each(|call| call.send(&mut self.engine));
        }
        for call in self.calls.values() {
            self.engine.watch(call.handle);
        }
        let Self { engine, calls, .. } = self;
        calls.retain(|_, call| {
            let over = call.failed || (call.complete && call.outgoing.done);
            if over {
                engine.finish(call.handle);
            }
            !over
        });
        seen.closed = self.engine.error().map(|(code, _)| Closed::Error(code));
        seen
    }
}

impl Call {
    fn observe(&mut self, stream: u32, engine: &mut Engine, releases: bool, seen: &mut Seen) {
        let (mut changed, mut taken) = (false, 0);
        while !self.complete && !self.failed {
            match engine.read(self.handle) {
                Input::Data(data) => {
                    seen.data.entry(stream).or_default().extend_from_slice(&data);
                    taken += data.len();
                }
                Input::End => {
                    self.complete = true;
                    seen.ends.insert((stream, End::Complete));
                }
                Input::Pending => break,
                Input::Failed(_) => break,
            }
            changed = true;
        }
        if releases {
            // At once: the engine may divide the data into other chunks.
            engine.release(self.handle, taken);
        }
        if !self.failed
            && let Some(cause) = engine.failure(self.handle)
        {
            self.failed = true;
            changed = true;
            match cause {
                Cause::ClientReset(code) => {
                    seen.ends.insert((stream, End::ClientReset(code)));
                }
                Cause::ServerReset => {
                    seen.ends.insert((stream, End::ServerReset));
                }
                Cause::ConnectionLost => {}
            }
        }
        assert!(self.reported || !changed, "no event of a change on stream {stream}");
    }

    /// Sends as much as the windows permit.
    fn send(&mut self, engine: &mut Engine) {
        self.reported = false;
        while !self.failed {
            match self.outgoing.next() {
                Next::Data(0, _) => {
                    engine.send_data(self.handle, &[], true);
                    self.outgoing.sent_data(0);
                }
                Next::Data(left, end) => {
                    let count = engine.capacity(self.handle, left);
                    if count == 0 {
                        break;
                    }
                    engine.send_data(self.handle, &vec![0; count], end && count == left);
                    self.outgoing.sent_data(count);
                }
                Next::Trailers => {
                    engine.send_trailers(self.handle, &HeaderMap::new());
                    self.outgoing.done = true;
                }
                Next::Nothing => break,
            }
        }
    }
}

//! The engine and the crate h2 receive the same bytes, and calls that act alike. Both have to
//! report the same requests, the same data and the same ends, to send the same responses, and to
//! find the same errors. `permitted.rs` lists the differences that are no fault of the engine.
//!
//! With the variable `PRINT_DIFFERENCES` the target prints each permitted difference that it meets.
//!
//! A second engine receives the same bytes in pieces. It has to behave like the first one.

#![no_main]

mod client;
mod engine;
mod grammar;
mod outgoing;
mod permitted;
mod reference;
mod seen;
#[allow(dead_code, reason = "each target uses a part of it")]
#[path = "../wire/mod.rs"]
mod wire;

use balafon::http2_engine::Limits;
use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;

use self::client::{Client, Unit};
use self::engine::EnginePeer;
use self::grammar::{Action, Program, Step};
use self::permitted::{Case, Windows};
use self::reference::ReferencePeer;
use self::seen::Seen;
use self::wire::Head;

const STREAMS: u32 = 4;
const HEADER_LIST: u32 = 1024;

fuzz_target!(|input: &[u8]| {
    let program = grammar::program(input);
    let mut run = Run::new(&program, seed(input));
    for step in program.steps {
        match step {
            Step::Write(bytes) => run.write(&bytes),
            Step::Act(stream, action) => run.act(stream, action),
        }
        if run.is_over {
            break;
        }
    }
    run.finish();
});

/// Depends on each byte of the input.
fn seed(input: &[u8]) -> u64 {
    input.iter().fold(0, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

/// The headers of all responses.
fn response() -> HeaderMap {
    let value = HeaderValue::from_static("application/grpc");
    [(header::CONTENT_TYPE, value)].into_iter().collect()
}

struct Run {
    client: Client,
    engine: EnginePeer,
    in_pieces: EnginePeer,
    /// `None` after a permitted difference.
    reference: Option<ReferencePeer>,
    pieces: Pieces,
    is_over: bool,
}

impl Run {
    fn new(program: &Program, seed: u64) -> Self {
        // h2 applies its window once the client has acknowledged it. Before that, the window is
        // the default (RFC 9113, 6.5.3).
        let stream_window = if program.acknowledges { 90_000 } else { 65_535 };
        let limits = Limits {
            streams: STREAMS,
            header_list: HEADER_LIST,
            stream_window,
            connection_window: 150_000,
        };
        Self {
            client: Client::new(),
            engine: EnginePeer::new(limits, program.releases),
            in_pieces: EnginePeer::new(limits, program.releases),
            reference: Some(ReferencePeer::new(limits, program.releases)),
            pieces: Pieces(seed),
            is_over: false,
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.client.write(bytes);
        while !self.is_over
            && let Some(unit) = self.client.next_unit()
        {
            self.unit(&unit);
        }
    }
}

impl Run {
    fn unit(&mut self, unit: &Unit) {
        let pieces = &mut self.pieces;
        self.engine.receive(&unit.bytes);
        pieces.cut(&unit.bytes, |piece| self.in_pieces.receive(piece));
        if let Some(reference) = &mut self.reference {
            reference.receive(&unit.bytes);
        }
        let before = self.windows(unit);
        let seen = self.compare(Some(unit), before);
        self.client.history.record(unit, &seen);
    }

    fn act(&mut self, stream: u32, action: Action) {
        self.engine.act(stream, action);
        self.in_pieces.act(stream, action);
        if let Some(reference) = &mut self.reference {
            reference.act(stream, action);
        }
        let seen = self.compare(None, Windows::default());
        self.client.history.observe(&seen);
    }

    /// Takes the DATA of the client from the windows that both servers have announced. Returns
    /// them.
    fn windows(&mut self, unit: &Unit) -> Windows {
        let Self { engine, in_pieces, reference, .. } = self;
        let mut windows = Windows::default();
        if let Some(Head { kind: wire::DATA, stream, length, .. }) = unit.head {
            in_pieces.wire.client_sent(stream, length);
            windows.engine = engine.wire.client_sent(stream, length);
            if let Some(reference) = reference {
                windows.h2 = reference.wire.client_sent(stream, length);
            }
        }
        windows
    }

    /// Compares the events of the unit, or of an action.
    fn compare(&mut self, unit: Option<&Unit>, windows: Windows) -> Seen {
        let seen = self.engine.observe();
        assert_eq!(seen, self.in_pieces.observe(), "another split changes {unit:?}");
        assert_eq!(self.engine.wire.windows(), self.in_pieces.wire.windows());
        self.is_over = seen.closed.is_some();
        if let Some(reference) = &mut self.reference {
            let h2 = reference.observe();
            let reason = self.engine.error();
            let history = &self.client.history;
            let case = Case { unit, engine: &seen, h2: &h2, reason, history, windows };
            let permitted = permitted::find(&case);
            assert!(permitted.is_some() || seen == h2, "no difference of the list: {case:?}");
            if let Some(difference) = permitted {
                difference.print();
                self.reference = None;
            }
        }
        seen
    }

    /// Sends the bytes that are no complete frame.
    fn finish(mut self) {
        if self.is_over {
            return;
        }
        let rest = self.client.rest();
        self.engine.receive(rest);
        self.pieces.cut(rest, |piece| self.in_pieces.receive(piece));
        assert_eq!(self.engine.observe(), self.in_pieces.observe(), "another split of {rest:?}");
    }
}

/// Cuts bytes at random (SplitMix64).
struct Pieces(u64);

impl Pieces {
    fn cut(&mut self, mut bytes: &[u8], mut piece: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let length = [1, 2, 8, 9, 10, 100, 5000, 20_000][(self.next() % 8) as usize];
            let (first, rest) = bytes.split_at(length.min(bytes.len()));
            piece(first);
            bytes = rest;
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

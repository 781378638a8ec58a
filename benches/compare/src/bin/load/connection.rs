//! The client's side of one HTTP/2 connection, as far as a load needs it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;

use crate::answers::Answers;
use crate::hpack;
use crate::io::Io;
use crate::options::Options;
use crate::script::Script;
use crate::{Failure, Ledger};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// RFC 9113, 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const FRAME_HEADER: usize = 9;
/// RFC 9113, 6.5.2: the least, and what a server may send as this client says nothing of it.
const DEFAULT_MAX_FRAME: usize = 16 * 1024;
/// RFC 9113, 6.9.2: windows until somebody says otherwise.
const DEFAULT_WINDOW: i64 = 65_535;

/// More than any call here receives, so that it never has to be given back.
const STREAM_WINDOW: u32 = 16 << 20;
/// Given back by halves.
const CONNECTION_WINDOW: u32 = 1 << 30;

/// What is encoded and not yet written, at most, but for one frame: a buffer that stays in the cache.
const HIGH_WATER: usize = 256 * 1024;
const READ_BUFFER: usize = 256 * 1024;

pub struct Connection {
    io: Io,
    /// The first request's header block; it fills HPACK's dynamic table for `next_block`.
    first_block: Option<Vec<u8>>,
    next_block: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    input: Box<[u8]>,
    /// How much of `input` is the beginning of a frame whose end has not arrived.
    pending: usize,
    /// By their ids, from that of `first_stream` up; `None` are those that have ended.
    streams: VecDeque<Option<Stream>>,
    first_stream: u32,
    open: usize,
    /// Streams that have something to send and may send it, as far as the windows go.
    sending: VecDeque<u32>,
    window: i64,
    initial_window: i64,
    max_frame: usize,
    received: u32,
}

struct Stream {
    since: Instant,
    body: usize,
    sent: usize,
    /// How far the body may be sent already.
    allowed: usize,
    window: i64,
    answers: Answers,
}

impl Connection {
    pub fn open(options: &Options, script: &Script) -> Result<Self, Failure> {
        let stream = std::net::TcpStream::connect(options.address.ok_or("--address is missing")?)?;
        let io = Io::new(stream, options.tls.as_deref())?;
        let (first_block, next_block) = hpack::blocks(script);
        let mut connection = Self {
            io,
            first_block: Some(first_block),
            next_block,
            output: PREFACE.to_vec(),
            written: 0,
            // Ten thousand idle connections need no buffer like that.
            input: vec![0; if options.hold { 32 * 1024 } else { READ_BUFFER }].into(),
            pending: 0,
            streams: VecDeque::new(),
            first_stream: 1,
            open: 0,
            sending: VecDeque::new(),
            window: DEFAULT_WINDOW,
            initial_window: DEFAULT_WINDOW,
            max_frame: DEFAULT_MAX_FRAME,
            received: 0,
        };
        // SETTINGS_ENABLE_PUSH = 0 and SETTINGS_INITIAL_WINDOW_SIZE.
        let mut settings = vec![0, 2, 0, 0, 0, 0, 0, 4];
        settings.extend(STREAM_WINDOW.to_be_bytes());
        connection.frame(SETTINGS, 0, 0, &settings);
        let more = CONNECTION_WINDOW - DEFAULT_WINDOW as u32;
        connection.frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        Ok(connection)
    }

    pub fn socket(&mut self) -> &mut TcpStream {
        self.io.socket()
    }

    pub fn open_calls(&self) -> usize {
        self.open
    }

    pub fn begin(&mut self, ledger: &mut Ledger<'_>) {
        self.begin_at(ledger, ledger.now);
    }

    /// Begins the next call, if there is to be one; it counts as begun at `since`.
    pub fn begin_at(&mut self, ledger: &mut Ledger<'_>, since: Instant) {
        let Some(number) = ledger.begin() else { return };
        let id = self.first_stream + 2 * self.streams.len() as u32;
        match self.first_block.take() {
            Some(block) => self.frame(HEADERS, END_HEADERS, id, &block),
            None => {
                let block = std::mem::take(&mut self.next_block);
                self.frame(HEADERS, END_HEADERS, id, &block);
                self.next_block = block;
            }
        }
        self.streams.push_back(Some(Stream {
            since,
            body: number as usize % ledger.script.bodies.len(),
            sent: 0,
            allowed: ledger.script.step,
            window: self.initial_window,
            answers: Answers::default(),
        }));
        self.open += 1;
        self.sending.push_back(id);
        self.send(ledger.script);
    }

    /// Handles all that has arrived; what it leads to is in the output then.
    pub fn read(&mut self, ledger: &mut Ledger<'_>) -> Result<(), Failure> {
        let mut input = std::mem::take(&mut self.input);
        loop {
            let free = &mut input[self.pending..];
            let len = match self.io.read(free) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            let last = len < free.len() && self.io.short_read_is_last();
            let end = self.pending + len;
            let used = self.frames(&input[..end], ledger)?;
            input.copy_within(used..end, 0);
            self.pending = end - used;
            if last {
                break;
            }
        }
        self.input = input;
        self.send(ledger.script);
        Ok(())
    }

    /// Writes as much as there is and the socket takes.
    pub fn write(&mut self, script: &Script) -> Result<(), Failure> {
        while self.written < self.output.len() {
            match self.io.write(&self.output[self.written..]) {
                Ok(len) => self.written += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if self.written == self.output.len() {
                self.output.clear();
                self.written = 0;
                self.send(script);
            }
        }
        match self.io.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Handles the whole frames of `bytes`, and says how long they are together.
    fn frames(&mut self, bytes: &[u8], ledger: &mut Ledger<'_>) -> Result<usize, Failure> {
        let mut used = 0;
        while let Some((header, rest)) = bytes[used..].split_first_chunk::<FRAME_HEADER>() {
            let [a, b, c, kind, flags, id @ ..] = *header;
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            if len > DEFAULT_MAX_FRAME {
                return Err("the server sent a frame that is too long".into());
            }
            let Some(payload) = rest.get(..len) else { break };
            self.received(kind, flags, u32::from_be_bytes(id), payload, ledger)?;
            used += FRAME_HEADER + len;
        }
        Ok(used)
    }

    fn received(
        &mut self,
        kind: u8,
        flags: u8,
        id: u32,
        payload: &[u8],
        ledger: &mut Ledger<'_>,
    ) -> Result<(), Failure> {
        match kind {
            DATA if flags & (PADDED | END_STREAM) != 0 => {
                return Err("a response ended without trailers, or is padded".into());
            }
            DATA => {
                self.received += payload.len() as u32;
                if self.received > CONNECTION_WINDOW / 2 {
                    self.frame(WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes());
                    self.received = 0;
                }
                let stream = self.stream(id).ok_or("DATA of a stream that is not open")?;
                let before = stream.answers.complete;
                stream.answers.count(payload);
                let waited = stream.sent == stream.allowed;
                stream.allowed += (stream.answers.complete - before) * ledger.script.step;
                stream.allowed = stream.allowed.min(ledger.script.bodies[stream.body].len());
                if waited && stream.sent < stream.allowed {
                    self.sending.push_back(id);
                }
            }
            HEADERS if flags & END_STREAM != 0 => self.end(id, ledger)?,
            RST_STREAM if self.stream(id).is_some() => {
                return Err(format!("the server reset a call: {payload:?}").into());
            }
            SETTINGS if flags & ACK == 0 => self.settings(payload)?,
            PING if flags & ACK == 0 => self.frame(PING, ACK, 0, payload),
            GOAWAY => return Err(format!("GOAWAY: {}", payload.escape_ascii()).into()),
            WINDOW_UPDATE => {
                let more = i64::from(u32::from_be_bytes(payload.try_into()?));
                if id == 0 {
                    self.window += more;
                } else if let Some(stream) = self.stream(id) {
                    stream.window += more;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), Failure> {
        for setting in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes(setting[2..].try_into()?);
            match name {
                1 if value < 4096 => return Err("the server wants a small HPACK table".into()),
                4 => {
                    let more = i64::from(value) - self.initial_window;
                    self.initial_window += more;
                    for stream in self.streams.iter_mut().flatten() {
                        stream.window += more;
                    }
                }
                5 => self.max_frame = value as usize,
                _ => {}
            }
        }
        self.frame(SETTINGS, ACK, 0, &[]);
        Ok(())
    }

    /// A call is over. Trailers are not decoded: one that failed has too few answers.
    fn end(&mut self, id: u32, ledger: &mut Ledger<'_>) -> Result<(), Failure> {
        let index = self.index(id);
        let stream = self.streams.get_mut(index).and_then(Option::take);
        let stream = stream.ok_or("trailers of a stream that is not open")?;
        let (got, wanted) = (stream.answers.complete, ledger.script.answers);
        if got != wanted || stream.sent < ledger.script.bodies[stream.body].len() {
            return Err(format!("a call ended with {got} of {wanted} messages").into());
        }
        self.open -= 1;
        while let Some(None) = self.streams.front() {
            self.streams.pop_front();
            self.first_stream += 2;
        }
        ledger.complete(stream.since);
        if ledger.closed_loop() {
            self.begin(ledger);
        }
        Ok(())
    }

    /// Puts bodies into the output, frame by frame in turn, as far as windows and buffer go.
    fn send(&mut self, script: &Script) {
        let mut waiting = self.sending.len();
        while waiting > 0 && self.window > 0 && self.output.len() < HIGH_WATER {
            let Some(id) = self.sending.pop_front() else { break };
            let (window, max_frame) = (self.window, self.max_frame);
            let Some(stream) = self.stream(id) else {
                waiting -= 1;
                continue;
            };
            let body = &script.bodies[stream.body];
            let allowed = window.min(stream.window).clamp(0, max_frame as i64) as usize;
            let part = &body[stream.sent..stream.allowed.min(stream.sent + allowed)];
            if part.is_empty() {
                waiting -= 1;
                self.sending.push_back(id);
                continue;
            }
            stream.sent += part.len();
            stream.window -= part.len() as i64;
            let last = stream.sent == body.len();
            if stream.sent < stream.allowed {
                self.sending.push_back(id);
            }
            self.window -= part.len() as i64;
            self.frame(DATA, if last { END_STREAM } else { 0 }, id, part);
            waiting = self.sending.len();
        }
    }

    fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        let index = self.index(id);
        self.streams.get_mut(index)?.as_mut()
    }

    fn index(&self, id: u32) -> usize {
        // An id from before the first wraps to one that is not there.
        (id.wrapping_sub(self.first_stream) / 2) as usize
    }

    fn frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
        self.output.extend([a, b, c, kind, flags]);
        self.output.extend(id.to_be_bytes());
        self.output.extend(payload);
    }
}

//! The state of one connection: its streams, windows and settings.

mod bandwidth;
mod data;
#[cfg(fuzzing)]
pub mod fuzzing;
mod headers;
mod receive;
mod repeated;
mod request;
mod reset_streams;
mod send;
mod settings;
mod shutdown;
mod streams;
#[cfg(test)]
mod tests;
mod unread;
mod window;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;

use self::bandwidth::Bandwidth;
use self::headers::HeaderBlock;
use self::receive::Stop;
use self::repeated::RepeatedRequest;
use self::reset_streams::ResetStreams;
pub(crate) use self::send::Read;
use self::settings::PeerSettings;
use self::shutdown::Shutdown;
use self::streams::Streams;
pub(crate) use self::streams::{Failure, Key};
use self::window::ReceiveWindow;
use super::error_code::ErrorCode;
use super::frame;
use super::hpack::{self, Decoder, Encoder};
use super::input::Input;
use super::output::Output;
use super::policy::{ObservedFrame, Policy};

/// The queues of a connection without streams do not keep room for more entries than this.
const KEPT_QUEUE: usize = 64;

/// The settings that the server announces (RFC 9113, 6.5.2), and its windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    pub(crate) max_concurrent_streams: u32,
    /// In bytes, as RFC 9113 (6.5.2) counts them.
    pub(crate) max_header_list_size: u32,
    /// The bytes in flight on each stream, until the windows grow.
    pub(crate) stream_window: u32,
    /// The bytes in flight on all streams, until the windows grow.
    pub(crate) connection_window: u32,
    /// The largest window of the connection. The windows of streams grow in proportion.
    pub(crate) max_connection_window: u32,
}

/// An error that ends the connection (RFC 9113, 5.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionError {
    pub(crate) code: ErrorCode,
    /// The violation, with the section of RFC 9113. It becomes the debug data of the GOAWAY.
    pub(crate) reason: &'static str,
}

impl ConnectionError {
    pub(super) fn new(code: ErrorCode, reason: &'static str) -> Self {
        Self { code, reason }
    }

    pub(super) fn protocol(reason: &'static str) -> Self {
        Self::new(ErrorCode::PROTOCOL_ERROR, reason)
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.reason)
    }
}

impl std::error::Error for ConnectionError {}

/// One connection of a client.
pub(crate) struct Connection<P> {
    config: Config,
    policy: P,
    input: Input,
    decoder: Decoder,
    encoder: Encoder,
    /// The last request, unless it cannot be repeated.
    repeated: Option<Box<RepeatedRequest>>,
    /// A header block whose CONTINUATION frames have not all arrived.
    block: Option<Box<HeaderBlock>>,
    /// The stream that gets the rest of the current DATA frame. `None` if it is discarded.
    data_target: Option<Key>,
    peer: PeerSettings,
    streams: Streams,
    /// Requests that no call has taken. An entry is stale if its stream was reset since.
    requests: VecDeque<(Key, u32, Arc<Parts>)>,
    /// Watched streams that have changed.
    events: Vec<Key>,
    /// Streams that wait for the window of the connection, or for room in `output`.
    blocked: VecDeque<(Key, u32)>,
    receive_window: ReceiveWindow,
    /// The present windows. They grow with the bandwidth.
    stream_window: u32,
    connection_window: u32,
    bandwidth: Bandwidth,
    /// The received bytes that no call has read.
    unread: usize,
    /// Whether the client knows the size of that window.
    window_raised: bool,
    send_window: i64,
    /// The largest stream ID that the client has used.
    last_stream: u32,
    resets: ResetStreams,
    shutdown: Shutdown,
    /// Whether the acknowledgement of a keepalive PING has arrived.
    pong: bool,
    output: Output,
    /// Why the connection is closed.
    closed: Option<Closed>,
    now: Instant,
}

/// The end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The client has closed the connection, or the socket has failed.
    Lost,
    /// The client has violated the protocol. The GOAWAY is in the output.
    Error(ConnectionError),
    /// The client has violated the policy.
    Violation,
}

impl<P: Policy> Connection<P> {
    /// A connection whose first output are the server's SETTINGS.
    pub(crate) fn new(config: Config, policy: P, now: Instant) -> Self {
        let mut connection = Self {
            config,
            policy,
            input: Input::new(),
            decoder: Decoder::new(hpack::DEFAULT_TABLE_SIZE),
            encoder: Encoder::new(),
            repeated: None,
            block: None,
            data_target: None,
            peer: PeerSettings::default(),
            streams: Streams::default(),
            requests: VecDeque::new(),
            events: Vec::new(),
            blocked: VecDeque::new(),
            receive_window: ReceiveWindow::new(config.connection_window),
            stream_window: config.stream_window,
            connection_window: config.connection_window,
            bandwidth: Bandwidth::new(),
            unread: 0,
            window_raised: false,
            send_window: i64::from(settings::DEFAULT_WINDOW),
            last_stream: 0,
            resets: ResetStreams::default(),
            shutdown: Shutdown::None,
            pong: false,
            output: Output::default(),
            closed: None,
            now,
        };
        connection.send_settings();
        connection
    }

    /// Whether the client's preface and SETTINGS have arrived (RFC 9113, 3.4).
    pub(crate) fn is_established(&self) -> bool {
        self.peer.received
    }

    pub(crate) fn policy(&mut self) -> &mut P {
        &mut self.policy
    }

    /// Takes bytes from the client, until the policy's turn is over. Returns their number. The
    /// output then has the answers, and [`next_request`](Self::next_request) and
    /// [`next_event`](Self::next_event) the results.
    pub(crate) fn receive(&mut self, bytes: &[u8], now: Instant) -> usize {
        self.now = now;
        if self.closed.is_some() {
            return bytes.len();
        }
        let mut rest = bytes;
        match self.receive_frames(&mut rest) {
            Ok(()) => self.raise_window(),
            Err(Stop::Error(error)) => {
                self.go_away(error.code, error.reason);
                self.close(Closed::Error(error));
            }
            Err(Stop::Violation) => self.close(Closed::Violation),
        }
        if self.closed.is_some() { bytes.len() } else { bytes.len() - rest.len() }
    }

    /// Ends all streams, because the socket is closed.
    pub(crate) fn lose(&mut self) {
        if self.closed.is_none() {
            self.close(Closed::Lost);
        }
    }

    fn close(&mut self, closed: Closed) {
        self.closed = Some(closed);
        self.requests = VecDeque::new();
        self.block = None;
        self.unread = 0;
        for stream in self.streams.iter_mut() {
            stream.fail(Failure::ConnectionLost);
        }
        let keys: Vec<Key> = self.streams.keys().collect();
        keys.into_iter().for_each(|key| self.notify(key));
    }

    pub(crate) fn closed(&self) -> Option<Closed> {
        self.closed
    }

    /// Returns the next request whose stream is still open.
    pub(crate) fn next_request(&mut self) -> Option<(Key, Arc<Parts>)> {
        loop {
            let (key, id, parts) = self.requests.pop_front()?;
            if let Some(stream) = self.streams.get_mut(key)
                && stream.id == id
            {
                stream.taken = true;
                return Some((key, parts));
            }
        }
    }

    /// Returns the next stream that has changed since [`watch`](Self::watch).
    pub(crate) fn next_event(&mut self) -> Option<Key> {
        self.events.pop()
    }

    /// Reports the next change of the stream as an event: data, its end, or more window.
    pub(crate) fn watch(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.watched = true;
        }
    }

    /// Whether calls should read before more is received. The windows do not bound the unread data,
    /// because they grow.
    pub(crate) fn is_full(&self) -> bool {
        self.unread >= self.config.connection_window as usize
    }

    /// Whether no stream is open or used by a call.
    pub(crate) fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    fn notify(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key)
            && std::mem::take(&mut stream.watched)
        {
            self.events.push(key);
        }
    }

    /// The bytes to write.
    pub(crate) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Frees memory after output was written.
    pub(crate) fn written(&mut self) {
        if self.streams.is_empty()
            && self.requests.capacity() + self.blocked.capacity() > KEPT_QUEUE
        {
            (self.requests, self.blocked, self.events) = Default::default();
        }
    }

    /// The longest header list that the client accepts, in bytes (RFC 9113, 6.5.2).
    pub(crate) fn header_limit(&self) -> u32 {
        self.peer.max_header_list_size
    }

    /// Sends RST_STREAM.
    fn put_reset(&mut self, stream: u32, code: ErrorCode) {
        frame::put_reset(self.output.frames(), stream, code);
        self.policy.sent(ObservedFrame::Reset(code));
    }
}

//! The engine for the fuzz target. cargo-fuzz compiles with `--cfg fuzzing`; other builds have no such module.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode, request};

use super::{Closed, Config, Connection, Failure, Key, Read};
use crate::http2::error_code::ErrorCode;
use crate::http2::policy::Permissive;

/// The settings that the server announces, and its windows, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub streams: u32,
    /// SETTINGS_MAX_HEADER_LIST_SIZE.
    pub header_list: u32,
    /// SETTINGS_INITIAL_WINDOW_SIZE.
    pub stream_window: u32,
    /// The window of the connection.
    pub connection_window: u32,
}

/// A stream that a call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle(Key);

/// The result of [`Engine::read`].
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Data has arrived.
    Data(Bytes),
    /// The client has half-closed.
    End,
    /// Nothing has arrived.
    Pending,
    /// The stream has ended early.
    Failed(Cause),
}

/// Why a stream has ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The client has reset it, with this code.
    ClientReset(u32),
    /// The server has reset it.
    ServerReset,
    /// The connection is closed.
    ConnectionLost,
}

/// A connection without a policy, and without time.
pub struct Engine {
    connection: Connection<Permissive>,
    now: Instant,
}

impl Engine {
    /// A connection whose first output are the server's SETTINGS.
    pub fn new(limits: Limits) -> Self {
        let config = Config {
            max_concurrent_streams: limits.streams,
            max_header_list_size: limits.header_list,
            stream_window: limits.stream_window,
            connection_window: limits.connection_window,
            // h2's windows do not grow.
            max_connection_window: limits.connection_window,
        };
        let now = Instant::now();
        Self { connection: Connection::new(config, Permissive, now), now }
    }

    /// Takes bytes from the client.
    pub fn receive(&mut self, bytes: &[u8]) {
        let count = self.connection.receive(bytes, self.now);
        assert_eq!(count, bytes.len(), "the turn is never over");
    }

    /// The code and the reason of the error that has closed the connection.
    pub fn error(&self) -> Option<(u32, &'static str)> {
        match self.connection.closed()? {
            Closed::Error(error) => Some((error.code.0, error.reason)),
            Closed::Lost | Closed::Violation => None,
        }
    }

    /// Returns the next request, with its stream ID.
    pub fn next_request(&mut self) -> Option<(u32, Handle, request::Parts)> {
        let (key, parts) = self.connection.next_request()?;
        let id = self.connection.streams.get(key).map_or(0, |stream| stream.id);
        Some((id, Handle(key), Arc::unwrap_or_clone(parts)))
    }

    /// Reports the next change of the stream as an event.
    pub fn watch(&mut self, stream: Handle) {
        self.connection.watch(stream.0);
    }

    /// Returns the next stream that has changed.
    pub fn next_event(&mut self) -> Option<Handle> {
        self.connection.next_event().map(Handle)
    }

    /// Takes the data that has arrived.
    pub fn read(&mut self, stream: Handle) -> Input {
        match self.connection.read(stream.0) {
            Read::Data(data) => Input::Data(data),
            Read::End => Input::End,
            Read::Pending => Input::Pending,
            Read::Failed(failure) => Input::Failed(failure.into()),
        }
    }

    /// Returns bytes that the call has taken to the client's windows.
    pub fn release(&mut self, stream: Handle, bytes: usize) {
        self.connection.release(stream.0, bytes);
    }

    /// Why the stream has ended early.
    pub fn failure(&self, stream: Handle) -> Option<Cause> {
        self.connection.failure(stream.0).map(Cause::from)
    }

    /// Sends the headers of a response. Does nothing if the stream has failed.
    pub fn send_headers(&mut self, stream: Handle, headers: &HeaderMap, end: bool) {
        let _ = self.connection.send_headers(stream.0, StatusCode::OK, headers, end);
    }

    /// Returns how many of `wanted` bytes can be sent now.
    pub fn capacity(&mut self, stream: Handle, wanted: usize) -> usize {
        self.connection.capacity(stream.0, wanted).unwrap_or(0)
    }

    /// Sends data. Does nothing if the stream has failed.
    pub fn send_data(&mut self, stream: Handle, data: &[u8], end: bool) {
        let _ = self.connection.send_data(stream.0, Bytes::copy_from_slice(data), end);
    }

    /// Sends trailers. Does nothing if the stream has failed.
    pub fn send_trailers(&mut self, stream: Handle, trailers: &HeaderMap) {
        let _ = self.connection.send_trailers(stream.0, trailers);
    }

    /// Resets the stream.
    pub fn reset(&mut self, stream: Handle, code: u32) {
        self.connection.reset(stream.0, ErrorCode(code));
    }

    /// Ends the call's use of the stream.
    pub fn finish(&mut self, stream: Handle) {
        self.connection.finish(stream.0);
    }

    /// Takes the bytes to write.
    pub fn take_output(&mut self) -> Vec<u8> {
        let output = self.connection.output();
        let bytes = output.copy_to_bytes(output.len());
        self.connection.written();
        self.connection.unblock();
        bytes.into()
    }
}

impl From<Failure> for Cause {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Reset(code) => Self::ClientReset(code.0),
            Failure::Protocol(_) | Failure::Cancelled => Self::ServerReset,
            Failure::ConnectionLost => Self::ConnectionLost,
        }
    }
}

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::Connection;
use super::streams::{Failure, Key, Receiving, Stream};
use super::unread::Unread;
use crate::http2::error_code::ErrorCode;
use crate::http2::frame::{self, HEAD_LEN};
use crate::http2::policy::{ObservedFrame, Policy};

/// The output that may wait for the socket before streams have to wait for it: enough for a turn at
/// 2 Gbit/s.
const OUTPUT_LIMIT: usize = 256 * 1024;

/// The window that a stream which waits for the connection's window will use, as an estimate.
const SHARE: i64 = 16 * 1024;

/// The result of [`Connection::read`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Data(Bytes),
    /// The client has half-closed.
    End,
    /// Nothing has arrived.
    Pending,
    Failed(Failure),
}

/// The functions of the call on a stream.
impl<P: Policy> Connection<P> {
    /// Takes the data that has arrived. Its window is returned by [`release`](Self::release).
    pub(crate) fn read(&mut self, key: Key) -> Read {
        let Some(stream) = self.streams.get_mut(key) else {
            return Read::Failed(Failure::ConnectionLost);
        };
        if let Some(data) = stream.unread.take() {
            self.unread = self.unread.saturating_sub(data.len());
            return Read::Data(data);
        }
        match stream.receiving {
            Receiving::Open => Read::Pending,
            Receiving::Ended => Read::End,
            Receiving::Failed(failure) => Read::Failed(failure),
        }
    }

    /// Returns why the stream carries no more data, if it does not.
    pub(crate) fn failure(&self, key: Key) -> Option<Failure> {
        match self.streams.get(key) {
            Some(stream) => stream.failure(),
            None => Some(Failure::ConnectionLost),
        }
    }

    /// Sends the headers of a response. `end` ends the stream.
    pub(crate) fn send_headers(
        &mut self,
        key: Key,
        status: StatusCode,
        headers: &HeaderMap,
        end: bool,
    ) -> Result<(), Failure> {
        self.send_block(key, Some(status), headers, end)
    }

    /// Sends the trailers of a response, which end the stream.
    pub(crate) fn send_trailers(&mut self, key: Key, trailers: &HeaderMap) -> Result<(), Failure> {
        self.send_block(key, None, trailers, true)
    }

    fn send_block(
        &mut self,
        key: Key,
        status: Option<StatusCode>,
        headers: &HeaderMap,
        end: bool,
    ) -> Result<(), Failure> {
        let stream = self.sender(key)?;
        let id = stream.id;
        stream.sending = !end;
        let length = self.put_headers(id, status, headers, end);
        self.policy.sent(ObservedFrame::Headers { stream: id, end, length });
        Ok(())
    }

    /// Queues a header block. Returns its length.
    fn put_headers(
        &mut self,
        stream: u32,
        status: Option<StatusCode>,
        headers: &HeaderMap,
        end: bool,
    ) -> usize {
        let frames = self.output.frames();
        let start = frames.len();
        frames.extend_from_slice(&[0; HEAD_LEN]);
        self.encoder.encode(status, headers, frames);
        let length = frames.len() - start - HEAD_LEN;
        frame::finish_headers(frames, start, self.peer.max_frame_size, stream, end);
        length
    }

    /// Answers a request whose header list is too long (RFC 9113, 10.5.1).
    pub(super) fn send_too_large(&mut self, stream: u32) {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        self.put_headers(stream, Some(status), &HeaderMap::new(), true);
        // It is the client's fault, so the answer earns nothing.
        self.policy.sent(ObservedFrame::Reset(ErrorCode::PROTOCOL_ERROR));
    }

    /// Returns how many of `wanted` bytes can be sent now. If none, the stream is watched.
    pub(crate) fn capacity(&mut self, key: Key, wanted: usize) -> Result<usize, Failure> {
        let window = self.send_window;
        let room = OUTPUT_LIMIT.saturating_sub(self.output.len());
        let stream = self.sender(key)?;
        let count = wanted.min(stream.sendable(window)).min(room);
        if count == 0 {
            stream.watched = true;
            self.block(key);
        }
        Ok(count)
    }

    /// Lets a stream wait for the connection, unless it waits for its own window.
    fn block(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key)
            && stream.send_window > 0
            && !std::mem::replace(&mut stream.blocked, true)
        {
            self.blocked.push_back((key, stream.id));
        }
    }

    /// Sends data, and ends the stream if `end` is true. Data that exceeds the
    /// [`capacity`](Self::capacity) is kept until the client accepts it.
    pub(crate) fn send_data(
        &mut self,
        key: Key,
        mut data: Bytes,
        end: bool,
    ) -> Result<(), Failure> {
        let window = self.send_window;
        let stream = self.sender(key)?;
        let unsent = data.split_off(stream.sendable(window).min(data.len()));
        let waits = !unsent.is_empty();
        stream.send_window -= data.len() as i64;
        stream.unsent.extend_from_slice(&unsent);
        stream.unsent_end = end;
        stream.sending = !end || waits;
        let (id, end) = (stream.id, end && !waits);
        self.send_window -= data.len() as i64;
        let mut more = end || !data.is_empty();
        while more {
            let part = data.split_to(data.len().min(self.peer.max_frame_size));
            more = !data.is_empty();
            self.policy.sent(ObservedFrame::Data(part.len()));
            frame::put_data_head(self.output.frames(), part.len(), id, end && !more);
            self.output.payload(part);
        }
        if waits {
            self.block(key);
        }
        Ok(())
    }

    /// Continues a stream whose window has grown.
    pub(super) fn window_opened(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.unsent.is_empty() {
            return self.notify(key);
        }
        let (unsent, end) = (std::mem::take(&mut stream.unsent), stream.unsent_end);
        if self.send_data(key, unsent.into(), end).is_ok()
            && let Some(stream) = self.streams.get(key)
            && !stream.taken
            && stream.unsent.is_empty()
        {
            self.finish(key);
        }
    }

    fn sender(&mut self, key: Key) -> Result<&mut Stream, Failure> {
        match self.streams.get_mut(key) {
            Some(stream) if stream.sending => Ok(stream),
            Some(stream) => Err(stream.failure().unwrap_or(Failure::Cancelled)),
            None => Err(Failure::ConnectionLost),
        }
    }

    /// Resets the stream.
    pub(crate) fn reset(&mut self, key: Key, code: ErrorCode) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.failure().is_some() || (stream.receiving == Receiving::Ended && !stream.sending) {
            return;
        }
        let id = stream.id;
        self.put_reset(id, code);
        self.resets.add(id, self.now);
        self.fail_stream(key, Failure::Cancelled);
    }

    /// Ends the call's use of a stream. A stream that is still open is reset: with NO_ERROR if the
    /// response is complete (RFC 9113, 8.1).
    pub(crate) fn finish(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if !stream.unsent.is_empty() {
            // The rest is sent when the client accepts it.
            stream.taken = false;
            self.unread = self.unread.saturating_sub(stream.unread.len());
            stream.unread = Unread::default();
            let held = stream.held;
            return self.release(key, held);
        }
        if stream.sending {
            self.reset(key, ErrorCode::CANCEL);
        } else if stream.receiving == Receiving::Open {
            self.reset(key, ErrorCode::NO_ERROR);
        }
        let held = self.forget(key);
        self.release_connection(held);
    }

    /// Reports the first streams that wait for the window of the connection or for the output, as
    /// many as can go on.
    pub(crate) fn unblock(&mut self) {
        let room = OUTPUT_LIMIT.saturating_sub(self.output.len());
        let mut left = self.send_window.min(room as i64);
        while left > 0
            && let Some((key, id)) = self.blocked.pop_front()
        {
            if let Some(stream) = self.streams.get_mut(key)
                && stream.id == id
            {
                stream.blocked = false;
                left -= SHARE;
                self.window_opened(key);
            }
        }
    }
}

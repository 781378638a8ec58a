use super::receive::{WRONG_LENGTH, split_padding, without_padding};
use super::shutdown::{BANDWIDTH_PING, Shutdown};
use super::streams::{Failure, Key, Receiving};
use super::{Connection, ConnectionError};
use crate::http2::error_code::ErrorCode;
use crate::http2::frame::{self, Head, MAX_31_BITS, flag};
use crate::http2::policy::Policy;

/// DATA, flow control and errors of streams (RFC 9113, 5.4.2, 6.1, 6.9).
impl<P: Policy> Connection<P> {
    /// Counts a DATA frame of `payload` bytes without padding. Returns the stream that gets the
    /// data, unless the data is discarded.
    pub(super) fn begin_data(
        &mut self,
        head: &Head,
        payload: usize,
    ) -> Result<Option<Key>, ConnectionError> {
        if !self.receive_window.take(head.length) {
            return Err(ConnectionError::new(
                ErrorCode::FLOW_CONTROL_ERROR,
                "DATA exceeds the window of the connection (6.9.1)",
            ));
        }
        if self.bandwidth.received(head.length, self.now) {
            frame::put_ping(self.output.frames(), BANDWIDTH_PING, false);
        }
        let Some(key) = self.find(head.stream, "DATA is on an idle stream (5.1)")? else {
            self.release_connection(head.length);
            self.answer_closed(head.stream);
            return Ok(None);
        };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(None) };
        let error = match stream.receiving {
            Receiving::Open => {
                let within_window = stream.receive_window.take(head.length);
                let fits = match stream.expected {
                    None => true,
                    Some(expected) => {
                        let left = expected.checked_sub(payload as u64);
                        stream.expected = Some(left.unwrap_or_default());
                        left.is_some()
                    }
                };
                if !within_window {
                    (ErrorCode::FLOW_CONTROL_ERROR, "DATA exceeds the window of its stream (6.9.1)")
                } else if !fits {
                    (ErrorCode::PROTOCOL_ERROR, "DATA exceeds the content-length (8.1.1)")
                } else {
                    stream.held += head.length;
                    return Ok(Some(key));
                }
            }
            Receiving::Ended | Receiving::Failed(Failure::Reset(_)) => {
                (ErrorCode::STREAM_CLOSED, "DATA follows the end of its stream (5.1)")
            }
            Receiving::Failed(_) => {
                self.release_connection(head.length);
                return Ok(None);
            }
        };
        self.release_connection(head.length);
        self.stream_error(key, error.0, error.1);
        Ok(None)
    }

    pub(super) fn data_part(&mut self, head: &Head, part: &[u8], last: bool) {
        let Some(key) = self.data_target else { return };
        if let Some(stream) = self.streams.get_mut(key)
            && stream.receiving == Receiving::Open
        {
            if stream.is_finished() {
                // No call reads it.
                self.release(key, part.len());
            } else {
                stream.unread.append(part);
                self.unread += part.len();
            }
            if last && head.has(flag::END_STREAM) {
                self.end_of_request(key);
            }
            self.notify(key);
        }
        if last {
            self.data_target = None;
        }
    }

    pub(super) fn padded_data(
        &mut self,
        head: &Head,
        payload: &[u8],
    ) -> Result<(), ConnectionError> {
        let (padding, payload) = split_padding(head, payload)?;
        let data = without_padding(padding, payload)?;
        self.data_target = self.begin_data(head, data.len())?;
        if let Some(key) = self.data_target {
            self.release(key, head.length - data.len());
        }
        self.data_part(head, data, true);
        Ok(())
    }

    pub(super) fn end_of_request(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.expected.is_some_and(|left| left > 0) {
            let reason = "the request is shorter than its content-length (8.1.1)";
            return self.stream_error(key, ErrorCode::PROTOCOL_ERROR, reason);
        }
        stream.receiving = Receiving::Ended;
    }

    /// Returns the stream of a frame, or `None` if the stream is closed.
    ///
    /// # Errors
    /// The stream is idle (RFC 9113, 5.1).
    pub(super) fn find(
        &self,
        stream: u32,
        idle: &'static str,
    ) -> Result<Option<Key>, ConnectionError> {
        if let Some(key) = self.streams.find(stream) {
            return Ok(Some(key));
        }
        let is_client = stream % 2 == 1;
        let is_used = stream <= self.last_stream || matches!(self.shutdown, Shutdown::Final(_));
        if is_client && is_used { Ok(None) } else { Err(ConnectionError::protocol(idle)) }
    }

    /// Answers the first DATA frame on a stream that is closed, unless the client may have sent it
    /// before it learned that.
    fn answer_closed(&mut self, stream: u32) {
        if stream <= self.last_stream && !self.resets.may_contain(stream) {
            self.put_reset(stream, ErrorCode::STREAM_CLOSED);
            self.resets.add(stream, self.now);
        }
    }

    /// Resets a stream because of an error of the client.
    pub(super) fn stream_error(&mut self, key: Key, code: ErrorCode, reason: &'static str) {
        let Some(stream) = self.streams.get(key) else { return };
        let id = stream.id;
        self.put_reset(id, code);
        self.resets.add(id, self.now);
        self.fail_stream(key, Failure::Protocol(reason));
    }

    /// Ends both halves of a stream.
    pub(super) fn fail_stream(&mut self, key: Key, failure: Failure) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        self.unread = self.unread.saturating_sub(stream.unread.len());
        let held = stream.fail(failure);
        if !stream.taken {
            self.forget(key);
        }
        self.release_connection(held);
        self.notify(key);
    }

    /// Removes a stream. Returns the bytes whose window the connection gets back.
    pub(super) fn forget(&mut self, key: Key) -> usize {
        let Some(stream) = self.streams.get(key) else { return 0 };
        let held = stream.held;
        self.unread = self.unread.saturating_sub(stream.unread.len());
        if stream.blocked {
            let of_stream = stream.id;
            self.blocked.retain(|(_, id)| *id != of_stream);
        }
        self.streams.remove(key);
        held
    }

    /// Returns bytes to the window of the connection.
    pub(super) fn release_connection(&mut self, bytes: usize) {
        if let Some(increment) = self.receive_window.release(bytes) {
            frame::put_window_update(self.output.frames(), 0, increment);
            self.window_returned();
        }
    }

    /// Returns bytes that the call has taken to the windows of its stream and of the connection.
    pub(crate) fn release(&mut self, key: Key, bytes: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let bytes = bytes.min(stream.held);
        stream.held -= bytes;
        if stream.receiving == Receiving::Open
            && let Some(increment) = stream.receive_window.release(bytes)
        {
            frame::put_window_update(self.output.frames(), stream.id, increment);
            self.window_returned();
        }
        self.release_connection(bytes);
    }

    pub(super) fn window_update(
        &mut self,
        head: &Head,
        payload: &[u8],
    ) -> Result<(), ConnectionError> {
        let increment = frame::number(payload.try_into().map_err(|_| WRONG_LENGTH)?);
        if head.stream == 0 {
            if increment == 0 {
                return Err(ConnectionError::protocol("WINDOW_UPDATE adds nothing (6.9)"));
            }
            self.send_window += i64::from(increment);
            if self.send_window > i64::from(MAX_31_BITS) {
                return Err(ConnectionError::new(
                    ErrorCode::FLOW_CONTROL_ERROR,
                    "WINDOW_UPDATE overflows the window of the connection (6.9.1)",
                ));
            }
            self.unblock();
            return Ok(());
        }
        let idle = "WINDOW_UPDATE is on an idle stream (5.1)";
        let Some(key) = self.find(head.stream, idle)? else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        if stream.failure().is_some() {
            return Ok(());
        }
        stream.send_window += i64::from(increment);
        if increment == 0 {
            self.stream_error(key, ErrorCode::PROTOCOL_ERROR, "WINDOW_UPDATE adds nothing (6.9)");
        } else if stream.send_window > i64::from(MAX_31_BITS) {
            let reason = "WINDOW_UPDATE overflows the window of its stream (6.9.1)";
            self.stream_error(key, ErrorCode::FLOW_CONTROL_ERROR, reason);
        } else {
            self.window_opened(key);
        }
        Ok(())
    }
}

use super::receive::{WRONG_LENGTH, split_padding, without_padding};
use super::repeated::RepeatedRequest;
use super::request::{BuiltRequest, Refused, RequestBuilder, check_header};
use super::shutdown::Shutdown;
use super::streams::{Failure, Key, Receiving, Stream};
use super::{Connection, ConnectionError};
use crate::http2::error_code::ErrorCode;
use crate::http2::frame::{self, Head, flag};
use crate::http2::hpack::{Field, Name, Value};
use crate::http2::policy::Policy;

/// A header list of this many times the limit ends the connection. A shorter one is answered.
const FAR_TOO_LARGE: usize = 4;

/// A header block that is not complete.
pub(super) struct HeaderBlock {
    pub(super) head: HeadersHead,
    fragments: Vec<u8>,
}

/// The parts of a HEADERS frame other than the block.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadersHead {
    pub(super) stream: u32,
    end_stream: bool,
    /// The stream depends on itself (RFC 7540, 5.3.1).
    depends_on_itself: bool,
}

/// HEADERS, CONTINUATION, and the requests in them (RFC 9113, 6.2, 6.10, 8.1).
impl<P: Policy> Connection<P> {
    pub(super) fn headers(&mut self, head: &Head, payload: &[u8]) -> Result<(), ConnectionError> {
        let (padding, mut fragment) = split_padding(head, payload)?;
        let mut depends_on_itself = false;
        if head.has(flag::PRIORITY) {
            let (priority, rest) = fragment.split_first_chunk::<5>().ok_or(WRONG_LENGTH)?;
            let [a, b, c, d, _] = *priority;
            depends_on_itself = frame::number([a, b, c, d]) == head.stream;
            fragment = rest;
        }
        let fragment = without_padding(padding, fragment)?;
        let end_stream = head.has(flag::END_STREAM);
        let headers = HeadersHead { stream: head.stream, end_stream, depends_on_itself };
        if head.has(flag::END_HEADERS) {
            return self.header_block(headers, fragment);
        }
        self.block = Some(Box::new(HeaderBlock { head: headers, fragments: fragment.to_vec() }));
        Ok(())
    }

    pub(super) fn continuation(
        &mut self,
        head: &Head,
        payload: &[u8],
    ) -> Result<(), ConnectionError> {
        let Some(mut block) = self.block.take() else {
            return Err(ConnectionError::protocol("CONTINUATION follows no HEADERS (6.10)"));
        };
        block.fragments.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            return self.header_block(block.head, &block.fragments);
        }
        // A block in Huffman code is never longer than four times its list.
        if block.fragments.len() > FAR_TOO_LARGE * self.config.max_header_list_size as usize {
            return Err(ConnectionError::new(
                ErrorCode::ENHANCE_YOUR_CALM,
                "a header block is longer than the header list limit permits (10.5.1)",
            ));
        }
        self.block = Some(block);
        Ok(())
    }

    fn header_block(&mut self, head: HeadersHead, block: &[u8]) -> Result<(), ConnectionError> {
        let HeadersHead { stream, end_stream, .. } = head;
        if stream.is_multiple_of(2) {
            return Err(ConnectionError::protocol("the stream ID of HEADERS is even (5.1.1)"));
        }
        if let Some(key) = self.streams.find(stream) {
            return self.trailers(key, end_stream, block);
        }
        if stream <= self.last_stream {
            self.decode(block, |_| {})?;
            if self.resets.may_contain(stream) {
                return Ok(());
            }
            return Err(ConnectionError::new(
                ErrorCode::STREAM_CLOSED,
                "HEADERS is on a closed stream (5.1)",
            ));
        }
        if let Shutdown::Final(_) = self.shutdown {
            return self.decode(block, |_| {});
        }
        self.last_stream = stream;
        if self.streams.len() >= self.config.max_concurrent_streams as usize {
            self.decode(block, |_| {})?;
            self.refuse(head, ErrorCode::REFUSED_STREAM);
            return Ok(());
        }
        match self.request(head, block)? {
            Ok(built) if end_stream && built.content_length.is_some_and(|length| length > 0) => {
                self.refuse(head, ErrorCode::PROTOCOL_ERROR);
            }
            Ok(built) => {
                let windows = (self.stream_window, self.peer.initial_window);
                let (id, length) = (stream, built.content_length);
                let stream = Stream::new(id, end_stream, length, windows.0, windows.1);
                let key = self.streams.insert(stream);
                self.requests.push_back((key, id, built.parts));
            }
            Err(Refused::TooLarge) => {
                self.send_too_large(stream);
                if !end_stream {
                    self.refuse(head, ErrorCode::NO_ERROR);
                }
            }
            Err(Refused::Malformed(_)) => self.refuse(head, ErrorCode::PROTOCOL_ERROR),
        }
        Ok(())
    }

    /// Decodes the header block of a request.
    fn request(
        &mut self,
        head: HeadersHead,
        block: &[u8],
    ) -> Result<Result<BuiltRequest, Refused>, ConnectionError> {
        if let Some(repeated) = &self.repeated
            && let Some(request) = repeated.find(block, &self.decoder)
            && !head.depends_on_itself
        {
            return Ok(Ok(request));
        }
        let table_changes = self.decoder.table_changes();
        let mut request = RequestBuilder::new(self.config.max_header_list_size as usize);
        self.decode(block, |field| request.field(field))?;
        if head.depends_on_itself {
            return Ok(Err(Refused::Malformed("a stream depends on itself")));
        }
        let request = request.finish();
        if let Ok(request) = &request
            && self.decoder.table_changes() == table_changes
        {
            RepeatedRequest::keep(&mut self.repeated, block, request, &self.decoder);
        }
        Ok(request)
    }

    /// Decodes a header block. Each block must be decoded, because it may change the table.
    fn decode(
        &mut self,
        block: &[u8],
        mut field: impl FnMut(&Field),
    ) -> Result<(), ConnectionError> {
        let mut size = 0;
        let decoded = self.decoder.decode(block, |it| {
            size += it.size();
            field(it);
        });
        if decoded.is_err() {
            let reason = "a header block is invalid (4.3)";
            return Err(ConnectionError::new(ErrorCode::COMPRESSION_ERROR, reason));
        }
        // A few bytes of a block can refer to many large entries of the table.
        if size > FAR_TOO_LARGE * self.config.max_header_list_size as usize {
            return Err(ConnectionError::new(
                ErrorCode::ENHANCE_YOUR_CALM,
                "a header list is far longer than SETTINGS_MAX_HEADER_LIST_SIZE (10.5.1)",
            ));
        }
        Ok(())
    }

    /// Resets a stream that is not in the table.
    fn refuse(&mut self, head: HeadersHead, code: ErrorCode) {
        self.put_reset(head.stream, code);
        if !head.end_stream {
            self.resets.add(head.stream, self.now);
        }
    }

    fn trailers(
        &mut self,
        key: Key,
        end_stream: bool,
        block: &[u8],
    ) -> Result<(), ConnectionError> {
        let mut error = None;
        self.decode(block, |field| {
            let checked = match (&field.name, &field.value) {
                (Name::Header(name), Value::Header(value)) => check_header(name, value),
                _ => Err("trailers have a pseudo-header or an invalid field (8.1)"),
            };
            if let Err(reason) = checked {
                error.get_or_insert(reason);
            }
        })?;
        if !end_stream {
            error.get_or_insert("HEADERS within a request do not end it (8.1)");
        }
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        match (stream.receiving, error) {
            (Receiving::Open, Some(reason)) => {
                self.stream_error(key, ErrorCode::PROTOCOL_ERROR, reason);
            }
            (Receiving::Open, None) => {
                self.end_of_request(key);
                self.notify(key);
            }
            (Receiving::Ended | Receiving::Failed(Failure::Reset(_)), _) => {
                let reason = "HEADERS follow the end of their stream (5.1)";
                self.stream_error(key, ErrorCode::STREAM_CLOSED, reason);
            }
            (Receiving::Failed(_), _) => {}
        }
        Ok(())
    }
}

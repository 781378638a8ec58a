use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::Terms;
use crate::grpc::code::Code;
use crate::grpc::compression::Compressor;
use crate::grpc::frame::{self, HEADER_LEN};
use crate::grpc::metadata::Metadata;
use crate::grpc::status::Status;

/// Bytes of outgoing messages that are buffered before the handler has to wait. It is the largest
/// DATA frame that every HTTP/2 peer accepts (RFC 9113, 4.2). Larger batches save no more CPU.
pub(super) const COALESCE: usize = 16 * 1024;

/// Room for the message that exceeds `COALESCE`, so that the buffer need not grow for it.
const OVERHANG: usize = 1024;

/// The response data that waits to be sent.
pub(crate) struct Outbound {
    /// Initial metadata; taken when the headers are sent.
    pub(crate) metadata: Metadata,
    pub(crate) trailers: Metadata,
    /// Whether the headers are to be sent before the first message.
    headers_due: bool,
    buffer: BytesMut,
    /// The memory of `buffer` in bytes, including sent parts: it is freed as a whole.
    allocated: usize,
    /// Bytes at the front of `buffer` that belong to a partly sent message.
    partial: usize,
    /// Usually none or one; several if the handler has moved its sink to a task.
    writers: Vec<Writer>,
    sent: u64,
    /// The bytes that were passed to the transport.
    gone: u64,
    limit: usize,
    pub(crate) compressor: Option<Compressor>,
    /// Whether writes never wait. True without a transport, where nothing drains the buffer.
    unbounded: bool,
}

/// A task that waits until at most `most` bytes are unsent.
struct Writer {
    waker: Waker,
    most: usize,
}

impl Outbound {
    pub(super) fn new(terms: &Terms, unbounded: bool) -> Self {
        Self {
            metadata: Metadata::new(),
            trailers: Metadata::new(),
            headers_due: false,
            buffer: BytesMut::new(),
            allocated: 0,
            partial: 0,
            writers: Vec::new(),
            sent: 0,
            gone: 0,
            limit: terms.send_limit,
            compressor: terms.compressor,
            unbounded,
        }
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn flush_headers(&mut self) {
        self.headers_due = true;
    }

    /// Ready when at most `most` bytes are unsent.
    pub(super) fn poll_unsent(&mut self, most: usize, cx: &mut Context<'_>) -> Poll<()> {
        if self.buffer.len() <= most || self.unbounded {
            return Poll::Ready(());
        }
        match self.writers.iter_mut().find(|writer| writer.waker.will_wake(cx.waker())) {
            Some(writer) => writer.most = most,
            None => self.writers.push(Writer { waker: cx.waker().clone(), most }),
        }
        Poll::Pending
    }

    /// Encodes `message` into the buffer. With `copy`, it also returns the payload before
    /// compression.
    pub(super) fn write(
        &mut self,
        message: &impl Message,
        compress: bool,
        copy: bool,
    ) -> Result<Option<Bytes>, Status> {
        let capacity = self.buffer.capacity();
        let written = self.encode(message, compress, copy);
        if let Err(status) = &written
            && status.code() == Code::Internal
        {
            tracing::error!(error = status.message(), "cannot encode a response message");
        }
        if self.buffer.capacity() != capacity {
            self.allocated = self.buffer.capacity();
        }
        written
    }

    fn encode(
        &mut self,
        message: &impl Message,
        compress: bool,
        copy: bool,
    ) -> Result<Option<Bytes>, Status> {
        let compressor = self.compressor.filter(|_| compress);
        if let Some(Compressor { encoding, min_size }) = compressor
            && frame::encoded_len(message)? >= min_size.max(1)
        {
            let mut plain = BytesMut::new();
            frame::encode(&mut plain, message, self.limit)?;
            let plain = plain.freeze().slice(HEADER_LEN..);
            let compressed = encoding.compress(&plain).map_err(|error| {
                Status::internal(format!("the message cannot be compressed: {error}"))
            })?;
            frame::put_compressed(&mut self.buffer, &compressed)?;
            self.sent += 1;
            return Ok(copy.then_some(plain));
        }
        let start = self.buffer.len();
        if self.sent > 0 && self.buffer.capacity() == start {
            // It is not the only message, so reserve room for a full DATA frame.
            self.buffer.reserve(COALESCE + OVERHANG);
        }
        frame::encode(&mut self.buffer, message, self.limit)?;
        self.sent += 1;
        Ok(copy.then(|| Bytes::copy_from_slice(&self.buffer[start + HEADER_LEN..])))
    }

    /// Whether the headers should be sent now.
    pub(crate) fn wants_headers(&self) -> bool {
        self.headers_due || !self.buffer.is_empty()
    }

    /// Returns the number of encoded bytes that wait to be sent.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the memory of the bytes that wait to be sent.
    pub(super) fn held(&self) -> usize {
        if self.buffer.is_empty() { 0 } else { self.allocated }
    }

    /// Removes and returns the first `count` bytes that wait to be sent.
    pub(crate) fn split(&mut self, count: usize) -> Bytes {
        self.gone += count as u64;
        let mut boundary = self.partial;
        while boundary < count {
            let length = &self.buffer[boundary + 1..boundary + HEADER_LEN];
            let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            boundary += HEADER_LEN + length;
        }
        self.partial = boundary - count;
        if self.sent == 1 && count == self.buffer.len() {
            // A complete response with one message: its buffer is moved rather than shared.
            return std::mem::take(&mut self.buffer).freeze();
        }
        self.buffer.split_to(count).freeze()
    }

    /// Whether a message is partly sent: a part was split off, and the rest is still here.
    pub(crate) fn inside_message(&self) -> bool {
        self.partial > 0
    }

    /// Discards the bytes that wait to be sent.
    pub(crate) fn discard(&mut self) {
        self.buffer = BytesMut::new();
        self.partial = 0;
    }

    /// Discards the bytes that wait to be sent, and the request to send the headers.
    pub(crate) fn withdraw(&mut self) {
        self.headers_due = false;
        self.discard();
    }

    /// Removes and returns the wakers of the writers that may go on.
    pub(crate) fn take_writers(&mut self) -> Vec<Waker> {
        if self.writers.is_empty() {
            return Vec::new();
        }
        let unsent = self.buffer.len();
        let ready = self.writers.extract_if(.., |writer| unsent <= writer.most);
        ready.map(|writer| writer.waker).collect()
    }

    /// Whether a writer waits for the client to read.
    pub(super) fn has_writers(&self) -> bool {
        !self.writers.is_empty()
    }

    /// Returns the number of bytes that were passed to the transport.
    pub(super) fn gone(&self) -> u64 {
        self.gone
    }

    /// Removes and returns the wakers of all writers.
    pub(super) fn take_all_writers(&mut self) -> impl Iterator<Item = Waker> + use<> {
        std::mem::take(&mut self.writers).into_iter().map(|writer| writer.waker)
    }
}

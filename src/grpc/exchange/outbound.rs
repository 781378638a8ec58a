use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::Terms;
use crate::grpc::code::Code;
use crate::grpc::compression::{Compressor, Encoding};
use crate::grpc::frame::{self, FrameError, HEADER_LEN};
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
        self.accounted(|it| it.encode(message, compress, copy))
    }

    /// Appends frames from the first of `frames` on, until a DATA frame is full. They are compressed
    /// as if they were [written](Self::write). Returns the length of those that were appended.
    pub(super) fn append(&mut self, frames: &[u8]) -> Result<usize, Status> {
        self.accounted(|it| match frame::split_first(frames) {
            None => Err(FrameError::Truncated.into()),
            Some((payload, _)) => match it.compressor_for(payload.len()) {
                Some(encoding) => {
                    it.check_limit(payload.len())?;
                    it.put_compressed(encoding, payload)?;
                    Ok(HEADER_LEN + payload.len())
                }
                None => it.append_plain(frames),
            },
        })
    }

    /// Appends frames up to the first one that is to be compressed.
    fn append_plain(&mut self, frames: &[u8]) -> Result<usize, Status> {
        let unbounded = self.unbounded;
        let room = if unbounded { usize::MAX } else { COALESCE.saturating_sub(self.buffer.len()) };
        let (mut end, mut count) = (0, 0);
        for payload in frame::payloads(frames) {
            if end >= room || self.compressor_for(payload.len()).is_some() {
                break;
            }
            if let Err(error) = self.check_limit(payload.len()) {
                if count == 0 {
                    return Err(error.into());
                }
                break;
            }
            end += HEADER_LEN + payload.len();
            count += 1;
        }
        let free = self.buffer.capacity() - self.buffer.len();
        if end > free && (self.sent > 0 || count > 1) {
            // At once, so that the buffer is not copied as it grows.
            let frame = (COALESCE + OVERHANG).saturating_sub(self.buffer.len());
            self.buffer.reserve(end.max(frame));
        }
        self.buffer.extend_from_slice(&frames[..end]);
        self.sent += count;
        Ok(end)
    }

    /// Logs an error of a write, and accounts for the memory that the write has allocated.
    fn accounted<T>(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let capacity = self.buffer.capacity();
        let written = write(self);
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
        if compress
            && self.compressor.is_some()
            && let Some(encoding) = self.compressor_for(frame::encoded_len(message)?)
        {
            let mut plain = BytesMut::new();
            frame::encode(&mut plain, message, self.limit)?;
            let plain = plain.freeze().slice(HEADER_LEN..);
            self.put_compressed(encoding, &plain)?;
            return Ok(copy.then_some(plain));
        }
        let start = self.buffer.len();
        self.reserve_data_frame();
        frame::encode(&mut self.buffer, message, self.limit)?;
        self.sent += 1;
        Ok(copy.then(|| Bytes::copy_from_slice(&self.buffer[start + HEADER_LEN..])))
    }

    /// Returns the encoding in which a message of `length` bytes is sent; `None` if it is not
    /// compressed.
    fn compressor_for(&self, length: usize) -> Option<Encoding> {
        let Compressor { encoding, min_size } = self.compressor?;
        if length >= min_size.max(1) { Some(encoding) } else { None }
    }

    fn check_limit(&self, length: usize) -> Result<(), FrameError> {
        let limit = self.limit;
        if length > limit {
            Err(FrameError::TooLarge { length: Some(length), limit })
        } else {
            Ok(())
        }
    }

    fn put_compressed(&mut self, encoding: Encoding, plain: &[u8]) -> Result<(), Status> {
        let compressed = encoding.compress(plain).map_err(|error| {
            Status::internal(format!("the message cannot be compressed: {error}"))
        })?;
        frame::put_compressed(&mut self.buffer, &compressed)?;
        self.sent += 1;
        Ok(())
    }

    /// Reserves memory for a full DATA frame, unless there is memory left or this is the first
    /// message: that may be the only one.
    fn reserve_data_frame(&mut self) {
        if self.sent > 0 && self.buffer.capacity() == self.buffer.len() {
            self.buffer.reserve(COALESCE + OVERHANG);
        }
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
        while boundary < count
            && let Some((payload, _)) = frame::split_first(&self.buffer[boundary..])
        {
            boundary += HEADER_LEN + payload.len();
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

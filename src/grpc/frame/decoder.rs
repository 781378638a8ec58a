use std::mem;

use bytes::buf::Take;
use bytes::{Buf, Bytes};

use super::chunks::Chunks;
use super::{DATA_FRAME, Frame, FrameError, HEADER_LEN, length_of, split_first};

/// Complete, uncompressed frames in a row.
#[derive(Debug, Clone, Default)]
pub struct WholeFrames {
    bytes: Bytes,
    /// The length of the frames at the front of `bytes` that were read. Counting is cheaper than
    /// cutting them off one by one.
    read: usize,
}

impl WholeFrames {
    /// Passes the payload of the next frame to `read`, which need not read all of it. Returns
    /// `None` after the last frame.
    pub fn next<R>(&mut self, read: impl FnOnce(Take<&mut Bytes>) -> R) -> Option<R> {
        self.bytes.advance(mem::take(&mut self.read));
        let (header, _) = self.bytes.split_first_chunk::<HEADER_LEN>()?;
        let length = length_of(header);
        self.bytes.advance(HEADER_LEN);
        let behind = self.bytes.len() - length;
        let result = read((&mut self.bytes).take(length));
        self.bytes.advance(self.bytes.len() - behind);
        Some(result)
    }

    /// Returns the payload of the next frame, unless that is longer than `longest` or no frame is
    /// left.
    pub(crate) fn next_short(&mut self, longest: usize) -> Option<&[u8]> {
        let (payload, rest) = split_first(&self.bytes[self.read..])?;
        if payload.len() > longest {
            return None;
        }
        self.read = self.bytes.len() - rest.len();
        Some(payload)
    }

    /// Returns the number of bytes of the remaining frames.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// Whether no frame is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Splits chunks of bytes into frames.
///
/// ```text
///            5 bytes                 `length` bytes
///  Header ------------> Payload ---------------------> a frame, Header again
/// ```
///
/// After an error, the decoder must not be used any more: the stream cannot be resynchronized, and
/// the call ends.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    chunks: Chunks,
    /// The header of the payload that is expected; `None` while a header is expected.
    header: Option<Header>,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    compressed: bool,
    length: usize,
}

impl FrameDecoder {
    /// A decoder that rejects messages of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, chunks: Chunks::default(), header: None }
    }

    /// Adds received bytes. It copies only a short chunk, and only if other bytes wait before it.
    pub fn push(&mut self, chunk: Bytes) {
        self.chunks.push(chunk);
    }

    /// Returns the number of bytes that wait to be read. The bytes of an incomplete message do not
    /// count.
    pub fn unread(&self) -> usize {
        match self.header {
            Some(header) if self.chunks.len() < header.length => 0,
            _ => self.chunks.len(),
        }
    }

    /// Returns the memory of the bytes that have not left in a frame.
    pub(crate) fn held(&self) -> usize {
        self.chunks.memory()
    }

    /// Frees spare memory behind the unread bytes. It is called before they have to wait.
    pub(crate) fn compact(&mut self) {
        self.chunks.compact();
    }

    /// Whether the next frame is complete and at least the header of another one follows.
    ///
    /// # Errors
    /// The errors of [`next_frame`](Self::next_frame).
    pub(crate) fn has_another(&mut self) -> Result<bool, FrameError> {
        let Some(header) = self.next_header()? else { return Ok(false) };
        Ok(self.chunks.len() >= header.length.saturating_add(HEADER_LEN))
    }

    /// Returns the next complete frame, or `None` until more bytes are pushed. Memory grows with
    /// the pushed bytes, never with the declared length. A header of five bytes must not reserve
    /// megabytes.
    ///
    /// # Errors
    /// [`FrameError::InvalidFlag`] and [`FrameError::TooLarge`], as soon as the header is read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.next_header()? else { return Ok(None) };
        if self.chunks.len() < header.length {
            return Ok(None);
        }
        self.header = None;
        let payload = self.chunks.take(header.length);
        Ok(Some(Frame { compressed: header.compressed, payload }))
    }

    /// Returns all uncompressed frames that lie whole at the start of the next chunk. It stops once
    /// they fill a DATA frame of the default size. If it returns none, call
    /// [`next_frame`](Self::next_frame).
    pub fn whole_frames(&mut self) -> WholeFrames {
        let front = self.chunks.front();
        let mut end = 0;
        while self.header.is_none()
            && end < DATA_FRAME
            && let Some((header, rest)) = front[end..].split_first_chunk()
            && let Ok(Header { compressed: false, length }) = self.parse_header(*header)
            && length <= rest.len()
        {
            end += HEADER_LEN + length;
        }
        let bytes = front.slice(..end);
        self.chunks.skip(end);
        WholeFrames { bytes, read: 0 }
    }

    /// Checks the end of the input: no more bytes will come.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if the last frame is incomplete.
    pub fn end(&self) -> Result<(), FrameError> {
        if self.header.is_some() || self.chunks.len() > 0 {
            Err(FrameError::Truncated)
        } else {
            Ok(())
        }
    }

    /// Checks the end of the input before the last frame is taken: no more bytes will come.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if that frame is incomplete, or another one has begun after it.
    pub(crate) fn end_after_next(&self) -> Result<(), FrameError> {
        let expected = self.header.map_or(0, |header| header.length);
        if self.chunks.len() == expected { Ok(()) } else { Err(FrameError::Truncated) }
    }

    /// Returns the header of the next frame, once it has arrived.
    fn next_header(&mut self) -> Result<Option<Header>, FrameError> {
        if self.header.is_none()
            && let Some(header) = self.chunks.take_array()
        {
            self.header = Some(self.parse_header(header)?);
        }
        Ok(self.header)
    }

    fn parse_header(&self, header: [u8; HEADER_LEN]) -> Result<Header, FrameError> {
        let (flag, length) = (header[0], length_of(&header));
        if flag > 1 {
            return Err(FrameError::InvalidFlag(flag));
        }
        if length > self.limit {
            return Err(FrameError::TooLarge { length: Some(length), limit: self.limit });
        }
        Ok(Header { compressed: flag == 1, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flag: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![flag];
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn decoder_ignores_data_boundaries() {
        let payloads: [&[u8]; 4] = [b"", b"a", &[7; 300], b"last"];
        let wire: Vec<u8> = payloads.iter().flat_map(|payload| frame(0, payload)).collect();
        for step in 1..=wire.len() {
            let mut decoder = FrameDecoder::new(1024);
            let mut seen = Vec::new();
            for chunk in wire.chunks(step) {
                decoder.push(Bytes::copy_from_slice(chunk));
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame.payload.into_bytes());
                }
            }
            assert_eq!(seen, payloads, "in chunks of {step}");
            assert_eq!(decoder.end(), Ok(()));
        }
    }

    #[test]
    fn decoder_does_not_copy_a_message_in_one_chunk() {
        let chunk = Bytes::from(frame(0, b"payload"));
        let expected = chunk[HEADER_LEN..].as_ptr();
        let mut decoder = FrameDecoder::new(1024);
        decoder.push(chunk);
        assert_eq!(decoder.next_frame().unwrap().unwrap().payload.into_bytes().as_ptr(), expected);
    }

    #[test]
    fn decoder_checks_the_limit_in_the_header() {
        let mut decoder = FrameDecoder::new(9);
        decoder.push(Bytes::from_static(&[0, 0, 0, 0, 10]));
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLarge { length: Some(10), limit: 9 }));
    }

    #[test]
    fn decoder_accepts_a_message_at_the_limit() {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(frame(1, &[3; 10]).into());
        let frame = decoder.next_frame().unwrap().unwrap();
        assert!(frame.compressed);
        assert_eq!(frame.payload.remaining(), 10);
    }

    #[test]
    fn decoder_rejects_a_flag_above_one() {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(Bytes::from_static(&[2, 0, 0, 0, 0]));
        assert_eq!(decoder.next_frame(), Err(FrameError::InvalidFlag(2)));
    }

    #[test]
    fn decoder_rejects_an_end_inside_a_frame() {
        let wire = frame(0, b"abc");
        for cut in 1..wire.len() {
            let mut decoder = FrameDecoder::new(10);
            decoder.push(Bytes::copy_from_slice(&wire[..cut]));
            assert_eq!(decoder.next_frame(), Ok(None));
            assert_eq!(decoder.end(), Err(FrameError::Truncated), "cut at {cut}");
        }
    }

    #[test]
    fn decoder_reserves_no_memory_for_a_declared_length() {
        let mut decoder = FrameDecoder::new(1 << 30);
        decoder.push(Bytes::from_static(&[0, 0x3f, 0xff, 0xff, 0xff, 1, 2, 3]));
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.compact();
        assert!((3..1024).contains(&decoder.held()));
    }

    #[test]
    fn decoder_holds_at_most_twice_the_received_bytes() {
        let wire = frame(0, &[1; 100_000]);
        let mut decoder = FrameDecoder::new(1 << 20);
        let mut received = 0;
        for chunk in wire.chunks(700) {
            received += chunk.len();
            decoder.push(Bytes::copy_from_slice(chunk));
            let complete = decoder.next_frame().unwrap().is_some();
            assert_eq!(complete, received == wire.len());
            decoder.compact();
            let held = decoder.held();
            assert!(held <= 2 * received, "{held} bytes for {received}");
        }
    }

    #[test]
    fn whole_frames_are_read_by_length() {
        let wire = [frame(0, b"one"), frame(0, b"three"), frame(0, b"four"), frame(0, b"")];
        let mut decoder = FrameDecoder::new(10);
        decoder.push(wire.concat().into());
        let mut frames = decoder.whole_frames();
        assert_eq!(frames.next_short(4), Some(&b"one"[..]));
        assert_eq!(frames.next_short(4), None);
        assert_eq!(frames.len(), wire[1..].concat().len());
        // A frame that is not read to its end.
        assert_eq!(frames.next(|mut payload| payload.get_u8()), Some(b't'));
        assert_eq!(frames.next_short(4), Some(&b"four"[..]));
        assert_eq!(frames.next_short(4), Some(&b""[..]));
        assert!(frames.is_empty() && frames.next_short(4).is_none());
        assert_eq!(frames.next(|_| ()), None);
    }

    #[test]
    fn decoder_detects_a_second_frame_by_its_header() {
        let wire = [frame(0, b"one"), frame(0, b"two")].concat();
        for count in 0..=wire.len() {
            let mut decoder = FrameDecoder::new(10);
            decoder.push(Bytes::copy_from_slice(&wire[..count]));
            let known = count >= 2 * HEADER_LEN + 3;
            assert_eq!(decoder.has_another(), Ok(known), "{count} bytes");
            assert_eq!(decoder.next_frame().unwrap().is_some(), count >= HEADER_LEN + 3);
        }
    }

    #[test]
    fn decoder_excludes_incomplete_messages_from_unread_bytes() {
        let wire = [frame(0, &[1; 20]), frame(0, b"next")].concat();
        for (count, unread) in [(4, 4), (5, 0), (24, 0), (25, 20), (26, 21)] {
            let mut decoder = FrameDecoder::new(20);
            decoder.push(Bytes::copy_from_slice(&wire[..count]));
            assert_eq!(decoder.has_another(), Ok(false));
            assert_eq!(decoder.unread(), unread, "{count} bytes");
        }
    }

    #[test]
    fn decoder_end_allows_one_more_complete_frame() {
        let wire = [frame(0, b"one"), frame(0, b"two")].concat();
        for count in HEADER_LEN..=wire.len() {
            let mut decoder = FrameDecoder::new(10);
            decoder.push(Bytes::copy_from_slice(&wire[..count]));
            decoder.has_another().unwrap();
            let complete = count == HEADER_LEN + 3;
            assert_eq!(decoder.end_after_next().is_ok(), complete, "{count} bytes");
        }
        assert_eq!(FrameDecoder::new(10).end_after_next(), Ok(()));
    }

    #[test]
    fn whole_frames_end_before_an_incomplete_or_compressed_frame() {
        let frames = [frame(0, b"one"), frame(0, b""), frame(1, b"two"), frame(0, b"three")];
        let wire = frames.concat();
        for count in 0..=wire.len() {
            let mut decoder = FrameDecoder::new(10);
            decoder.push(Bytes::copy_from_slice(&wire[..count]));
            let frames = decoder.whole_frames();
            let expected = [0, 8, 13].into_iter().rfind(|end| *end <= count).unwrap();
            assert_eq!(frames.len(), expected, "{count} bytes");
            assert_eq!(frames.is_empty(), expected == 0);
            assert_eq!(decoder.unread(), count - expected);
        }
    }

    #[test]
    fn whole_frames_are_none_inside_a_frame() {
        let mut decoder = FrameDecoder::new(1 << 20);
        decoder.push(Bytes::copy_from_slice(&frame(0, &frame(0, b"inner"))[..HEADER_LEN]));
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.push(Bytes::from(frame(0, b"inner")));
        assert!(decoder.whole_frames().is_empty());
        assert!(decoder.next_frame().unwrap().is_some());
    }

    #[test]
    fn whole_frames_stop_after_16_kib() {
        let kib = frame(0, &[1; 1_024 - HEADER_LEN]);
        let mut decoder = FrameDecoder::new(1 << 20);
        decoder.push(kib.repeat(40).into());
        for taken in [16, 16, 8, 0] {
            assert_eq!(decoder.whole_frames().len(), taken * 1_024);
        }
        decoder.push(frame(0, &[1; 30_000]).into());
        assert_eq!(decoder.whole_frames().len(), HEADER_LEN + 30_000);
    }

    #[test]
    fn whole_frames_skip_bytes_that_were_not_read() {
        let wire = [frame(0, b"one"), frame(0, b""), frame(0, b"three")].concat();
        for most in 0..=5 {
            let mut frames = WholeFrames { bytes: wire.clone().into(), read: 0 };
            let mut read = |expected: &[u8]| {
                let next = frames.next(|mut payload| {
                    assert_eq!(payload.remaining(), expected.len());
                    payload.copy_to_bytes(most.min(expected.len()))
                });
                assert_eq!(next.unwrap(), expected[..most.min(expected.len())]);
            };
            read(b"one");
            read(b"");
            read(b"three");
            assert!(frames.is_empty() && frames.next(|_| ()).is_none());
        }
    }
}

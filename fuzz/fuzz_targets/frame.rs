//! Frames do not depend on how their bytes were cut, are what was on the wire, and respect the
//! limit.
//!
//! ```text
//! limit(2) n(1) piece sizes(n) wire(..)
//! ```

#![no_main]

use balafon::grpc::frame::{self, Frame, FrameDecoder, FrameError, HEADER_LEN};
use balafon::prost::Message;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(([high, low, count], rest)) = input.split_first_chunk() else {
        return;
    };
    let limit = usize::from(u16::from_be_bytes([*high, *low]));
    let (sizes, wire) = rest.split_at(usize::from(*count).min(rest.len()));

    let (frames, end) = decode(limit, [wire]);
    assert_eq!(decode(limit, pieces(wire, sizes)), (frames.clone(), end));
    check_whole_frames(limit, wire, &frames);
    assert!(frames.iter().all(|frame| frame.payload.remaining() <= limit));

    let again = reencode(&frames);
    match end {
        Ok(()) => assert_eq!(again, wire),
        Err(error) => {
            let rest = wire.strip_prefix(&again[..]).expect("frames are what was on the wire");
            check_error(error, rest, limit);
        }
    }
    for frame in frames {
        round_trip(frame.payload.into_bytes(), limit);
    }
});

/// The frames of all pieces, looked for after each piece, and how it ended.
fn decode<'a>(
    limit: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Frame>, Result<(), FrameError>) {
    let mut decoder = FrameDecoder::new(limit);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
        assert!(decoder.unread() < HEADER_LEN, "only a part of a header may be left unread");
    }
    (frames, decoder.end())
}

/// Taken together or one by one, frames are the same.
fn check_whole_frames(limit: usize, wire: &[u8], frames: &[Frame]) {
    let mut decoder = FrameDecoder::new(limit);
    decoder.push(Bytes::copy_from_slice(wire));
    let mut frames = frames.iter();
    loop {
        let mut whole = decoder.whole_frames();
        while let Some(payload) =
            whole.next(|mut payload| payload.copy_to_bytes(payload.remaining()))
        {
            let frame = frames.next().expect("no more frames than there are");
            assert!(!frame.compressed && frame.payload.clone().into_bytes() == payload);
        }
        match decoder.next_frame() {
            Ok(Some(frame)) => assert_eq!(Some(&frame), frames.next()),
            Ok(None) | Err(_) => break,
        }
    }
    assert_eq!(frames.next(), None);
}

/// `wire` in pieces of these sizes over and over; the last piece may be shorter.
fn pieces<'a>(mut wire: &'a [u8], sizes: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    // An empty piece is a piece; only all of them must not be empty.
    if sizes.iter().any(|size| *size > 0) {
        for size in sizes.iter().cycle() {
            if wire.is_empty() {
                break;
            }
            let (piece, rest) = wire.split_at(usize::from(*size).min(wire.len()));
            pieces.push(piece);
            wire = rest;
        }
    }
    pieces.push(wire);
    pieces
}

fn reencode(frames: &[Frame]) -> Vec<u8> {
    let mut wire = Vec::new();
    for frame in frames {
        wire.put_u8(frame.compressed.into());
        wire.put_u32(frame.payload.remaining() as u32);
        wire.put(frame.payload.clone());
    }
    wire
}

/// `error` is what is wrong with the frame at the front of `rest`.
fn check_error(error: FrameError, rest: &[u8], limit: usize) {
    let header = rest.split_first_chunk::<HEADER_LEN>();
    let length = |header: &[u8; HEADER_LEN]| {
        let [_, length @ ..] = *header;
        u32::from_be_bytes(length) as usize
    };
    match (error, header) {
        (FrameError::InvalidFlag(flag), Some((header, _))) => {
            assert!(flag > 1 && flag == header[0]);
        }
        (FrameError::TooLarge { length: Some(declared), limit: named }, Some((header, _))) => {
            assert!(declared > limit && declared == length(header) && named == limit);
        }
        (FrameError::Truncated, Some((header, payload))) => assert!(payload.len() < length(header)),
        (FrameError::Truncated, None) => assert!(!rest.is_empty()),
        (error, _) => panic!("{error} before a header was complete"),
    }
}

/// Any payload, as a message of one field, comes back from what `encode` writes.
fn round_trip(payload: Bytes, limit: usize) {
    let mut wire = BytesMut::from(&b"before"[..]);
    match frame::encode(&mut wire, &payload, limit) {
        Ok(length) => {
            assert!(length <= limit);
            let (frames, end) = decode(limit, [&wire[b"before".len()..]]);
            assert_eq!((frames.len(), end), (1, Ok(())));
            assert_eq!(Bytes::decode(frames[0].payload.clone()), Ok(payload));
        }
        Err(_) => {
            assert!(payload.encoded_len() > limit);
            assert_eq!(wire, "before");
        }
    }
}

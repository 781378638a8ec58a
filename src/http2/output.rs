//! The bytes that wait to be written.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Shorter payloads are copied behind their frame header: a slice of their own would cost more.
const OWN_SLICE: usize = 4 * 1024;

/// An empty output does not keep more memory than this, in bytes.
const KEPT: usize = 1024;

/// Frames, and the long payloads between them, which are not copied.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// The frames without the long payloads.
    frames: Vec<u8>,
    /// How many bytes of `frames` are written.
    written: usize,
    /// The long payloads, each with its place: how many bytes of `frames` stand before it.
    payloads: VecDeque<(usize, Bytes)>,
    /// The sum of the lengths of the payloads.
    payload_bytes: usize,
}

impl Output {
    /// The memory to append frames to.
    pub(crate) fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.frames
    }

    /// Appends the payload of the last frame.
    pub(super) fn payload(&mut self, payload: Bytes) {
        if payload.len() < OWN_SLICE {
            return self.frames.extend_from_slice(&payload);
        }
        self.payload_bytes += payload.len();
        self.payloads.push_back((self.frames.len(), payload));
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len() - self.written + self.payload_bytes
    }

    /// Replaces the bytes by others.
    pub(crate) fn replace(&mut self, bytes: &[u8]) {
        *self = Self { frames: bytes.to_vec(), ..Self::default() };
    }

    /// Frees the memory of what is written: if that is everything, or if it is more than the rest.
    fn free_written(&mut self) {
        if self.written > KEPT && self.written > self.frames.len() / 2 {
            self.frames.drain(..self.written);
            self.payloads.iter_mut().for_each(|(place, _)| *place -= self.written);
            self.written = 0;
        }
        if self.len() == 0 {
            self.frames.clear();
            self.frames.shrink_to(KEPT);
            self.written = 0;
            self.payloads.shrink_to(0);
        }
    }

    /// How many bytes of `frames` come before the next payload.
    fn before_payload(&self) -> usize {
        self.payloads.front().map_or(self.frames.len(), |(place, _)| *place) - self.written
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        match (self.before_payload(), self.payloads.front()) {
            (0, Some((_, payload))) => payload,
            (count, _) => &self.frames[self.written..self.written + count],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut put = |bytes: &'a [u8]| {
            if !bytes.is_empty()
                && let Some(slice) = slices.get_mut(count)
            {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
        };
        let mut from = self.written;
        for (place, payload) in &self.payloads {
            put(&self.frames[from..*place]);
            put(payload);
            from = *place;
        }
        put(&self.frames[from..]);
        count
    }

    fn advance(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let frames = self.before_payload();
            if frames > 0 {
                let count = frames.min(left);
                self.written += count;
                left -= count;
                continue;
            }
            let Some((_, payload)) = self.payloads.front_mut() else { break };
            let count = payload.len().min(left);
            payload.advance(count);
            self.payload_bytes -= count;
            left -= count;
            if payload.is_empty() {
                self.payloads.pop_front();
            }
        }
        self.free_written();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of one byte and payloads by turns, and all of it.
    fn output(payloads: &[usize]) -> (Output, Vec<u8>) {
        let (mut output, mut expected) = (Output::default(), Vec::new());
        for (index, length) in payloads.iter().enumerate() {
            let payload = vec![100 + index as u8; *length];
            output.frames().push(index as u8);
            output.payload(payload.clone().into());
            expected.push(index as u8);
            expected.extend(payload);
        }
        (output, expected)
    }

    const LENGTHS: [usize; 6] = [OWN_SLICE, 3, 0, 2 * OWN_SLICE, OWN_SLICE, OWN_SLICE - 1];

    #[test]
    fn output_keeps_the_order_of_its_bytes() {
        for step in [1, 7, 4095, 4096, 4097, 10_000, 100_000] {
            let (mut output, expected) = output(&LENGTHS);
            let mut read = Vec::new();
            while output.has_remaining() {
                assert_eq!(output.len(), expected.len() - read.len());
                let count = output.chunk().len().min(step);
                read.extend_from_slice(&output.chunk()[..count]);
                output.advance(count);
            }
            assert!(read == expected, "steps of {step} bytes");
        }
    }

    #[test]
    fn output_slices_are_all_of_its_bytes() {
        let (mut output, expected) = output(&LENGTHS);
        for written in [0, 1, 500, OWN_SLICE, 2 * OWN_SLICE] {
            output.advance(written);
            let mut slices = [IoSlice::new(&[]); 16];
            let count = output.chunks_vectored(&mut slices);
            let read: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            assert!(read == expected[expected.len() - output.len()..], "{written} bytes written");
            let mut few = [IoSlice::new(&[]); 2];
            assert_eq!(output.chunks_vectored(&mut few), 2);
        }
    }

    #[test]
    fn output_does_not_copy_long_payloads() {
        let payload = Bytes::from(vec![1; OWN_SLICE]);
        let mut output = Output::default();
        output.payload(payload.clone());
        assert_eq!(output.chunk().as_ptr(), payload.as_ptr());
    }

    #[test]
    fn output_that_is_never_empty_frees_what_is_written() {
        let (mut output, mut expected) = output(&LENGTHS);
        for round in 0..1000 {
            let frame = [round as u8; 100];
            output.frames().extend_from_slice(&frame);
            expected.extend_from_slice(&frame);
            let count = output.len() - 50;
            assert!(output.copy_to_bytes(count) == expected[..count], "round {round}");
            expected.drain(..count);
            assert!(output.frames.len() <= 2 * KEPT + 2 * OWN_SLICE);
        }
        assert!(output.frames.capacity() <= 8 * OWN_SLICE);
    }

    #[test]
    fn empty_output_keeps_little_memory() {
        let (mut output, expected) = output(&[100; 100]);
        output.advance(expected.len());
        assert!(output.frames.capacity() <= KEPT);
        assert_eq!((output.len(), output.payloads.capacity()), (0, 0));
    }
}

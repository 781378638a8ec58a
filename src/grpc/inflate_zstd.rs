//! zstd for [`inflate`](super::inflate), with contexts that are used again: to make one takes 20
//! microseconds, a thousand times what a short message does.

use std::cell::Cell;
use std::io::{self, BufRead, Read};

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::inflate::{Decompressor, Gate};

/// 8 MiB, the window that RFC 8878 (3.1.1.1.2) recommends decoders to support: a message must not
/// ask for more memory than that.
const WINDOW_LOG: u32 = 23;

/// A context that has had a larger window than this is not kept, in bytes.
const KEPT_WINDOW: usize = 256 * 1024;

/// What a context takes beside its window, in bytes.
const CONTEXT: usize = 160 * 1024;

thread_local! {
    /// One of each thread, while no message has it.
    static KEPT: Cell<Option<Decoder<'static>>> = const { Cell::new(None) };
}

/// Bytes that decompressing a message of these first bytes takes beside its output.
pub(super) fn context(message: &[u8]) -> usize {
    CONTEXT + window(message).min(1 << WINDOW_LOG)
}

/// How far a frame of these first bytes may look back (RFC 8878, 3.1.1.1).
fn window(message: &[u8]) -> usize {
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let (descriptor, rest) = match message {
        [_, _, _, _, descriptor, rest @ ..] => (*descriptor, rest),
        _ => return 0,
    };
    if descriptor & SINGLE_SEGMENT == 0 {
        let Some(window) = rest.first() else { return 0 };
        let base = 1_usize << (10 + (window >> 3));
        return base + base / 8 * usize::from(window & 7);
    }
    let dictionary_id = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let content = rest.iter().skip(dictionary_id).take(length).rev();
    content.fold(0, |size: usize, byte| size.saturating_mul(256).saturating_add((*byte).into()))
}

/// One frame of zstd.
pub(super) struct Zstd {
    /// Gone only when this is dropped.
    decoder: Option<Decoder<'static>>,
    gate: Gate,
    done: bool,
    kept: bool,
}

impl Zstd {
    pub(super) fn new(gate: Gate) -> io::Result<Self> {
        let kept = window(gate.rest()) <= KEPT_WINDOW;
        let decoder = match KEPT.take() {
            Some(mut decoder) => {
                decoder.reinit()?;
                decoder
            }
            None => {
                let mut decoder = Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
                decoder
            }
        };
        Ok(Self { decoder: Some(decoder), gate, done: false, kept })
    }
}

impl Drop for Zstd {
    fn drop(&mut self) {
        if self.kept {
            KEPT.set(self.decoder.take());
        }
    }
}

impl Decompressor for Zstd {
    fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }
}

impl Read for Zstd {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        let Self { decoder: Some(decoder), gate, done, .. } = self else { return Ok(0) };
        while !*done {
            let input = gate.fill_buf()?;
            let ended = input.is_empty();
            let mut source = InBuffer::around(input);
            let mut target = OutBuffer::around(&mut *output);
            // Zero when the frame is complete and all of it was given out.
            *done = decoder.run(&mut source, &mut target)? == 0;
            let (consumed, produced) = (source.pos(), target.pos());
            gate.consume(consumed);
            if produced > 0 {
                return Ok(produced);
            }
            if ended && !*done {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::compression::Encoding;

    #[test]
    fn zstd_is_charged_for_its_window() {
        let head = |exponent: u8| [0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3];
        assert_eq!(window(&head(13)), 8 << 20);
        assert_eq!(window(&head(0)), 1024);
        let single = Encoding::ZSTD.compress(&[1; 3000]).unwrap();
        assert!((2744..=3000).contains(&window(&single)), "{}", window(&single));
        assert_eq!(window(b"short"), 0);
    }

    #[test]
    fn a_context_is_used_again_after_any_end() {
        let whole = Encoding::ZSTD.compress(&[7; 1000]).unwrap();
        for _ in 0..3 {
            assert!(Encoding::ZSTD.decompress(&whole[..whole.len() / 2], 1 << 20).is_err());
            assert!(Encoding::ZSTD.decompress(b"no frame", 1 << 20).is_err());
            assert_eq!(Encoding::ZSTD.decompress(&whole, 1 << 20).unwrap(), [7; 1000][..]);
            let kept = KEPT.take();
            assert!(kept.is_some());
            KEPT.set(kept);
        }
    }
}

//! zstd for [`inflate`](super::inflate). It reuses contexts: a new one takes 20 microseconds, a
//! thousand times as long as a short message.

use std::cell::Cell;
use std::io::{self, BufRead, Read};

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::inflate::{Decompressor, Gate};

/// The largest window accepted: 8 MiB, which RFC 8878 (3.1.1.1.2) recommends decoders to support.
/// It limits the memory that a message can ask for.
const WINDOW_LOG: u32 = 23;

/// The largest window of a context that is kept for reuse, in bytes.
const KEPT_WINDOW: usize = 256 * 1024;

/// Memory of a context without its window, in bytes.
const CONTEXT: usize = 160 * 1024;

thread_local! {
    /// Each thread keeps one unused context.
    static KEPT: Cell<Option<Decoder<'static>>> = const { Cell::new(None) };
}

/// Memory that decompression of this message takes without its output, in bytes. `message` may be
/// only the first bytes.
pub(super) fn context(message: &[u8]) -> usize {
    CONTEXT + window(message).min(1 << WINDOW_LOG)
}

/// The window of a frame that begins with these bytes (RFC 8878, 3.1.1.1), in bytes.
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

/// The decompressor of one zstd frame.
pub(super) struct Zstd {
    /// `None` only after the drop, which moves the context out.
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

    fn unread(&self) -> usize {
        self.gate.unread()
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
            // Returns zero when the frame is complete and all of its output was returned.
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
    fn zstd_context_is_reused_after_any_end() {
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

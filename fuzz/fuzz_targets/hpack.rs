//! Blocks of one connection. Nothing panics, and:
//!
//! - if another decoder takes a block too, it finds the same fields;
//! - fields that are encoded again come back from both decoders.
//!
//! ```text
//! { table size(1) length(1) block(length) }*
//! ```
//!
//! The table size is that of the encoder, in units of 32 bytes. 255 leaves it as it is.

#![no_main]

use balafon::hpack::{Decoder, Encoder, Pair};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use loona_hpack::Decoder as OtherDecoder;

fuzz_target!(|input: &[u8]| {
    let (mut decoder, mut other) = (Decoder::new(), OtherDecoder::new());
    other.set_max_allowed_table_size(4096);
    let mut again = Again::new();
    let mut rest = input;
    while let [size, length, behind @ ..] = rest {
        let (block, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        // After an error a decoder must not be used.
        let (Ok(fields), Ok(others)) = (decoder.decode(block), other.decode(block)) else {
            return;
        };
        assert_eq!(fields, others);
        again.check(*size, &fields);
    }
});

/// An encoder, and the decoders that read what it writes.
struct Again {
    encoder: Encoder,
    decoder: Decoder,
    other: OtherDecoder<'static>,
}

impl Again {
    fn new() -> Self {
        let other = OtherDecoder::new();
        Self { encoder: Encoder::new(), decoder: Decoder::new(), other }
    }

    fn check(&mut self, size: u8, fields: &[Pair]) {
        if size != 255 {
            self.encoder.set_max_table_size(u32::from(size) * 32);
        }
        let headers = headers(fields);
        let block = self.encoder.encode(&headers);
        let pair = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())
        };
        let expected: Vec<Pair> = headers.iter().map(pair).collect();
        assert_eq!(self.decoder.decode(&block).as_ref(), Ok(&expected));
        match self.other.decode(&block) {
            Ok(others) => assert_eq!(others, expected),
            // It refuses a size update without fields behind it.
            Err(error) => assert!(expected.is_empty(), "{error}"),
        }
    }
}

/// The fields that are headers.
fn headers(fields: &[Pair]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_lowercase(name);
        let value = HeaderValue::from_bytes(value);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

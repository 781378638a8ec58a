//! Random lists and random blocks, by a generator with fixed seeds.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::{Decoder, Encoder, huffman, integer};
use super::{Pair, decode, pair};
use crate::http2::random::Random;

impl Random {
    fn text(&mut self, max: usize, character: impl Fn(&mut Self) -> char) -> String {
        (0..self.below(max + 1)).map(|_| character(self)).collect()
    }
}

const NAMES: [&str; 9] = [
    "content-type",
    "grpc-status",
    "grpc-message",
    "grpc-encoding",
    "server",
    "vary",
    "x-a",
    "x-request-id",
    "date",
];

#[test]
fn encoded_lists_are_decoded() {
    let mut random = Random(1);
    for _ in 0..100 {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        for _ in 0..50 {
            if random.below(10) == 0 {
                for _ in 0..random.below(4) {
                    encoder.set_max_table_size(random.pick(&[0, 40, 100, 1000, 4096, 65536]));
                }
            }
            let mut headers = HeaderMap::new();
            for _ in 0..random.below(8) {
                let max = random.pick(&[1, 2, 30, 300, 3000]);
                let text = random.text(max, |random| random.pick(&['0', 'a', 'Z', '~', '{']));
                let mut value = HeaderValue::from_str(&text).unwrap();
                value.set_sensitive(random.below(8) == 0);
                headers.append(HeaderName::from_static(random.pick(&NAMES)), value);
            }
            let mut block = Vec::new();
            encoder.encode(None, &headers, &mut block);
            let expected: Vec<Pair> = headers
                .iter()
                .map(|(name, value)| pair(name.as_str(), value.to_str().unwrap()))
                .collect();
            assert_eq!(decode(&mut decoder, &block), Ok(expected));
            assert_eq!(encoder.dynamic_table(), decoder.dynamic_table());
        }
    }
}

#[test]
fn each_byte_survives_the_huffman_code() {
    let mut random = Random(2);
    let mut memory = Vec::new();
    for length in 0..500 {
        let text: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        let mut encoded = Vec::new();
        huffman::encode(&text, &mut encoded);
        assert_eq!(encoded.len(), huffman::encoded_len(&text));
        assert_eq!(huffman::decode(&encoded, &mut memory), Ok(&text[..]));
    }
}

/// An encoder that chooses any representation, with the simplest table.
struct AnyEncoder {
    random: Random,
    /// The newest entry is the last.
    table: Vec<Pair>,
    max_size: usize,
    block: Vec<u8>,
}

impl AnyEncoder {
    fn size(&self) -> usize {
        self.table.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
    }

    fn evict(&mut self) {
        while self.size() > self.max_size {
            self.table.remove(0);
        }
    }

    fn update_size(&mut self) {
        self.max_size = self.random.pick(&[0, 33, 34, 80, 200, 4096]);
        self.evict();
        integer::encode(0x20, 0x1f, self.max_size, &mut self.block);
    }

    /// The index of the newest entry for which this holds.
    fn index(&self, is_wanted: impl Fn(&Pair) -> bool) -> Option<usize> {
        let at = self.table.iter().rev().position(is_wanted)?;
        Some(62 + at)
    }

    fn string(&mut self, text: &str) {
        let mut octets = text.as_bytes().to_vec();
        let mut pattern = 0;
        if self.random.below(2) == 0 {
            octets.clear();
            huffman::encode(text.as_bytes(), &mut octets);
            pattern = 0x80;
        }
        integer::encode(pattern, 0x7f, octets.len(), &mut self.block);
        self.block.extend(octets);
    }

    fn field(&mut self, field: &Pair) {
        if let Some(index) = self.index(|entry| entry == field)
            && self.random.below(4) > 0
        {
            return integer::encode(0x80, 0x7f, index, &mut self.block);
        }
        let (pattern, prefix) =
            self.random.pick(&[(0x40, 0x3f), (0x40, 0x3f), (0, 0xf), (0x10, 0xf)]);
        let name =
            self.index(|entry| entry.0 == field.0).filter(|_| !self.random.0.is_multiple_of(4));
        integer::encode(pattern, prefix, name.unwrap_or(0), &mut self.block);
        if name.is_none() {
            self.string(&field.0);
        }
        self.string(&field.1);
        if pattern == 0x40 {
            self.table.push(field.clone());
            self.evict();
        }
    }
}

#[test]
fn any_representation_is_decoded() {
    for seed in 0..100 {
        let mut encoder = AnyEncoder {
            random: Random(seed),
            table: Vec::new(),
            max_size: 4096,
            block: Vec::new(),
        };
        let mut decoder = Decoder::new(4096);
        for _ in 0..50 {
            encoder.block.clear();
            for _ in 0..encoder.random.below(8).saturating_sub(5) {
                encoder.update_size();
            }
            let mut fields = Vec::new();
            for _ in 0..encoder.random.below(8) {
                let letter = |random: &mut Random| random.pick(&['a', '0', '-', '_']);
                let name = encoder.random.text(2, letter);
                let max = encoder.random.pick(&[1, 1, 40, 200]);
                let value = encoder.random.text(max, letter);
                encoder.field(&(name.clone(), value.clone()));
                fields.push((name, value));
            }
            assert_eq!(decode(&mut decoder, &encoder.block), Ok(fields), "seed {seed}");
            let mut table = encoder.table.clone();
            table.reverse();
            assert_eq!(decoder.dynamic_table(), (table, encoder.size()), "seed {seed}");
        }
    }
}

#[test]
fn nothing_panics_on_random_blocks() {
    let mut random = Random(3);
    for _ in 0..20_000 {
        let mut decoder = Decoder::new(random.pick(&[0, 100, 4096]));
        let length = random.below(60);
        // Octets below 16, at times: literals with short strings.
        let mask = random.pick(&[0xff, 0xff, 0x4f, 0x0f]);
        let block: Vec<u8> = (0..length).map(|_| random.next() as u8 & mask).collect();
        let _ = decode(&mut decoder, &block);
        assert!(decoder.dynamic_table().1 <= 4096);
    }
}

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{HeaderName, StatusCode};

use super::super::static_table::{self, ENTRIES};
use super::super::{Decoder, Encoder, Name};
use super::{Pair, decode, hex, pair};

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

fn encode(encoder: &mut Encoder, status: Option<u16>, headers: &HeaderMap) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.encode(status.map(|code| StatusCode::from_u16(code).unwrap()), headers, &mut block);
    block
}

/// An encoder, and a decoder for its blocks.
struct Peers {
    encoder: Encoder,
    decoder: Decoder,
}

impl Peers {
    fn new() -> Self {
        Self { encoder: Encoder::new(), decoder: Decoder::new(4096) }
    }

    /// Returns the block, and its fields.
    fn send(&mut self, fields: &[(&'static str, &'static str)]) -> (Vec<u8>, Vec<Pair>) {
        let block = encode(&mut self.encoder, None, &headers(fields));
        let fields = decode(&mut self.decoder, &block).unwrap();
        assert_eq!(self.encoder.dynamic_table(), self.decoder.dynamic_table());
        (block, fields)
    }
}

#[test]
fn a_response_has_one_octet_for_each_field_after_the_first() {
    let response = headers(&[
        ("content-type", "application/grpc"),
        ("grpc-accept-encoding", "gzip,deflate,zstd"),
    ]);
    let trailers = headers(&[("grpc-status", "0")]);
    let mut encoder = Encoder::new();
    encode(&mut encoder, Some(200), &response);
    encode(&mut encoder, None, &trailers);
    assert_eq!(encode(&mut encoder, Some(200), &response), hex("88 c0 bf"));
    assert_eq!(encode(&mut encoder, None, &trailers), hex("be"));
}

#[test]
fn the_same_value_in_other_memory_is_found() {
    let mut encoder = Encoder::new();
    let status = |text: &str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_str(text).unwrap());
        trailers
    };
    encode(&mut encoder, None, &status("13"));
    encode(&mut encoder, None, &status("14"));
    assert_eq!(encode(&mut encoder, None, &status("13")), hex("bf"));
    assert_eq!(encode(&mut encoder, None, &status("14")), hex("be"));
}

#[test]
fn statuses() {
    // "200" by the static table; others with the name of an entry.
    assert_eq!(encode(&mut Encoder::new(), Some(200), &HeaderMap::new()), hex("88"));
    assert_eq!(encode(&mut Encoder::new(), Some(302), &HeaderMap::new()), hex("08 82 6402"));
    for code in [404, 415, 431, 999] {
        let block = encode(&mut Encoder::new(), Some(code), &HeaderMap::new());
        let fields = decode(&mut Decoder::new(4096), &block);
        assert_eq!(fields, Ok(vec![pair(":status", &code.to_string())]));
    }
}

#[test]
fn values_that_change_are_not_indexed() {
    let mut peers = Peers::new();
    for value in ["one", "two", "two"] {
        for name in ["grpc-message", "grpc-status-details-bin", "x-request-id", "date"] {
            let (block, fields) = peers.send(&[(name, value)]);
            assert_eq!(block[0] & 0xf0, 0, "{name}");
            assert_eq!(fields, [pair(name, value)]);
        }
    }
    assert_eq!(peers.decoder.dynamic_table(), (vec![], 0));
}

#[test]
fn sensitive_values_are_never_indexed() {
    for name in [CONTENT_TYPE, HeaderName::from_static("x-token")] {
        let mut headers = HeaderMap::new();
        let mut value = HeaderValue::from_static("secret");
        value.set_sensitive(true);
        headers.insert(name, value);
        let mut encoder = Encoder::new();
        for _ in 0..2 {
            let block = encode(&mut encoder, None, &headers);
            assert_eq!(block[0] & 0xf0, 0x10);
        }
        assert_eq!(encoder.dynamic_table(), (vec![], 0));
    }
}

#[test]
fn huffman_code_only_if_it_is_shorter() {
    // "no-cache" takes 6 octets; the braces take 15 bits each.
    let mut encoder = Encoder::new();
    let block = encode(&mut encoder, None, &headers(&[("cache-control", "no-cache")]));
    assert_eq!(block, hex("58 86 a8eb10649cbf"));
    let block = encode(&mut encoder, None, &headers(&[("cache-control", "{{{")]));
    assert_eq!(block, hex("58 03 7b7b7b"));
    // "&" takes 8 bits: as long as without the code.
    let block = encode(&mut encoder, None, &headers(&[("cache-control", "&&")]));
    assert_eq!(block, hex("58 02 2626"));
}

#[test]
fn short_literals_that_are_sent_once_have_no_huffman_code() {
    let mut peers = Peers::new();
    for (length, expected) in [(64, 3 + 64), (65, 3 + 65 * 5 / 8 + 1)] {
        // "a" takes 5 bits, and "date" is in the static table.
        let value: &str = Box::leak("a".repeat(length).into_boxed_str());
        let (block, fields) = peers.send(&[("date", value)]);
        assert_eq!(block.len(), expected);
        assert_eq!(fields, [pair("date", value)]);
    }
}

#[test]
fn the_table_evicts_the_oldest_entries() {
    let mut peers = Peers::new();
    // 4 of these entries fit: 32 + 6 + 858 = 896 bytes.
    let values: Vec<&'static str> = ["a", "b", "c", "d", "e"]
        .map(|letter| &*Box::leak(letter.repeat(858).into_boxed_str()))
        .to_vec();
    for value in &values {
        peers.send(&[("server", value)]);
    }
    let (table, size) = peers.decoder.dynamic_table();
    assert_eq!((table.len(), size), (4, 4 * 896));
    // "b" is the oldest. "a" is sent again, and evicts it.
    assert_eq!(peers.send(&[("server", values[1])]).0, hex("c1"));
    assert_eq!(peers.send(&[("server", values[0])]).0[0], 0x40 | 54);
    assert_eq!(peers.send(&[("server", values[0])]).0, hex("be"));
}

#[test]
fn a_value_of_half_of_the_table_is_not_indexed() {
    let mut peers = Peers::new();
    let value = |length: usize| -> &'static str { Box::leak("x".repeat(length).into_boxed_str()) };
    // 2048 and 2049 bytes.
    peers.send(&[("server", value(2010))]);
    assert_eq!(peers.decoder.dynamic_table().1, 2048);
    peers.send(&[("server", value(2011))]);
    assert_eq!(peers.decoder.dynamic_table().1, 2048);
}

#[test]
fn size_updates_of_the_peer() {
    const STATUS: &[(&str, &str)] = &[("grpc-status", "0")];
    let mut peers = Peers::new();
    let (_, fields) = peers.send(STATUS);
    assert_eq!(fields, [pair("grpc-status", "0")]);
    let mut blocks = |sizes: &[u32]| {
        for size in sizes {
            peers.encoder.set_max_table_size(*size);
        }
        peers.send(STATUS).0
    };
    assert_eq!(blocks(&[]), hex("be"));
    // More than 4096 is not used.
    assert_eq!(blocks(&[4096]), hex("be"));
    assert_eq!(blocks(&[u32::MAX]), hex("be"));
    // A smaller table that has room for the entry: 44 of 100 bytes.
    assert_eq!(blocks(&[100]), hex("3f45 be"));
    assert_eq!(blocks(&[]), hex("be"));
    // The smallest, then the last.
    assert_eq!(blocks(&[50, 70, 60])[..4], hex("3f13 3f1d"));
    assert_eq!(blocks(&[0, 4096])[..4], hex("20 3fe11f"));
    assert_eq!(blocks(&[]), hex("be"));
    // Without a table every field is a literal.
    assert_eq!(blocks(&[0])[..2], hex("20 00"));
    assert_eq!(blocks(&[])[..1], hex("00"));
    assert_eq!(blocks(&[4096])[..4], hex("3fe11f 40"));
    assert_eq!(blocks(&[]), hex("be"));
}

#[test]
fn indexes_of_names_are_those_of_the_static_table() {
    for (at, entry) in ENTRIES.iter().enumerate() {
        let mut decoder = Decoder::new(4096);
        let text = |bytes| String::from_utf8(Vec::from(bytes)).unwrap();
        let expected = pair(&text(entry.name.as_bytes()), &text(entry.value.as_bytes()));
        assert_eq!(decode(&mut decoder, &[0x80 | (at as u8 + 1)]), Ok(vec![expected]));
        if let Name::Header(name) = &entry.name {
            assert_eq!(static_table::index_of(name.as_str()), Some(at + 1));
        }
    }
    assert_eq!(static_table::index_of("grpc-status"), None);
}

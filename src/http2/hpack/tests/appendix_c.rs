//! The examples of RFC 7541 appendix C.

use http::HeaderValue;

use super::super::integer::{self, Reader};
use super::super::{Decoder, Value, huffman};
use super::{Pair, decode, hex, pair};

#[test]
fn integers() {
    // C.1.1 to C.1.3
    for (prefix, value, octets) in [(0x1f, 10, "0a"), (0x1f, 1337, "1f9a0a"), (0xff, 42, "2a")] {
        let mut encoded = Vec::new();
        integer::encode(0, prefix, value, &mut encoded);
        assert_eq!(encoded, hex(octets));
        let mut reader = Reader::new(&encoded);
        let first = reader.octet().unwrap();
        assert_eq!(reader.integer(first, prefix), Ok(value));
        assert_eq!(reader.octet(), None);
    }
}

#[test]
fn single_fields() {
    let examples = [
        // C.2.1 to C.2.4
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            "custom-key",
            "custom-header",
            55,
        ),
        ("040c 2f73 616d 706c 652f 7061 7468", ":path", "/sample/path", 0),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password", "secret", 0),
        ("82", ":method", "GET", 0),
    ];
    for (block, name, value, table_size) in examples {
        let mut decoder = Decoder::new(4096);
        assert_eq!(decode(&mut decoder, &hex(block)), Ok(vec![pair(name, value)]));
        assert_eq!(decoder.dynamic_table().1, table_size);
    }
}

/// C.2.3: the field must not be indexed.
#[test]
fn a_never_indexed_value_is_sensitive() {
    let sensitive = |block| {
        let mut sensitive = None;
        Decoder::new(4096)
            .decode(&hex(block), |field| match &field.value {
                Value::Header(value) => sensitive = Some(HeaderValue::is_sensitive(value)),
                _ => panic!("no header"),
            })
            .unwrap();
        sensitive
    };
    assert_eq!(sensitive("1008 7061 7373 776f 7264 0673 6563 7265 74"), Some(true));
    assert_eq!(sensitive("0008 7061 7373 776f 7264 0673 6563 7265 74"), Some(false));
}

#[test]
fn requests_without_huffman_code() {
    // C.3.1 to C.3.3
    check_requests([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
}

#[test]
fn requests_with_huffman_code() {
    // C.4.1 to C.4.3
    check_requests([
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ]);
}

fn check_requests(blocks: [&str; 3]) {
    let authority = pair(":authority", "www.example.com");
    let no_cache = pair("cache-control", "no-cache");
    let custom = pair("custom-key", "custom-value");
    let request = |scheme: &str, path: &str, others: &[&Pair]| {
        let mut fields = vec![pair(":method", "GET"), pair(":scheme", scheme), pair(":path", path)];
        fields.extend(others.iter().map(|field| (*field).clone()));
        fields
    };
    check(
        Decoder::new(4096),
        blocks,
        [
            request("http", "/", &[&authority]),
            request("http", "/", &[&authority, &no_cache]),
            request("https", "/index.html", &[&authority, &custom]),
        ],
        [
            (vec![authority.clone()], 57),
            (vec![no_cache.clone(), authority.clone()], 110),
            (vec![custom.clone(), no_cache.clone(), authority.clone()], 164),
        ],
    );
}

#[test]
fn responses_without_huffman_code() {
    // C.5.1 to C.5.3
    check_responses([
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a
         3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04
         677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49
         553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ]);
}

#[test]
fn responses_with_huffman_code() {
    // C.6.1 to C.6.3
    check_responses([
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e
         919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7
         821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed
         4ee5 b106 3d50 07",
    ]);
}

/// The table has 256 bytes, so entries are evicted.
fn check_responses(blocks: [&str; 3]) {
    let found = pair(":status", "302");
    let redirect = pair(":status", "307");
    let ok = pair(":status", "200");
    let private = pair("cache-control", "private");
    let date = pair("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let later = pair("date", "Mon, 21 Oct 2013 20:13:22 GMT");
    let location = pair("location", "https://www.example.com");
    let gzip = pair("content-encoding", "gzip");
    let cookie = pair("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
    let list = |fields: &[&Pair]| fields.iter().map(|field| (*field).clone()).collect::<Vec<_>>();
    check(
        Decoder::new(256),
        blocks,
        [
            list(&[&found, &private, &date, &location]),
            list(&[&redirect, &private, &date, &location]),
            list(&[&ok, &private, &later, &location, &gzip, &cookie]),
        ],
        [
            (list(&[&location, &date, &private, &found]), 222),
            (list(&[&redirect, &location, &date, &private]), 222),
            (list(&[&cookie, &gzip, &later]), 215),
        ],
    );
}

/// Decodes three blocks one after the other. After each the table has these entries and this size.
fn check(
    mut decoder: Decoder,
    blocks: [&str; 3],
    lists: [Vec<Pair>; 3],
    tables: [(Vec<Pair>, usize); 3],
) {
    for ((block, list), table) in blocks.into_iter().zip(lists).zip(tables) {
        assert_eq!(decode(&mut decoder, &hex(block)), Ok(list));
        assert_eq!(decoder.dynamic_table(), table);
    }
}

#[test]
fn huffman_code() {
    let examples = [
        ("www.example.com", "f1e3 c2e5 f23a 6ba0 ab90 f4ff"),
        ("no-cache", "a8eb 1064 9cbf"),
        ("custom-key", "25a8 49e9 5ba9 7d7f"),
        ("custom-value", "25a8 49e9 5bb8 e8b4 bf"),
        ("302", "6402"),
        ("private", "aec3 771a 4b"),
        ("Mon, 21 Oct 2013 20:13:21 GMT", "d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff"),
        ("https://www.example.com", "9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3"),
        ("307", "640e ff"),
        ("gzip", "9bd9 ab"),
    ];
    for (text, code) in examples {
        let mut encoded = Vec::new();
        huffman::encode(text.as_bytes(), &mut encoded);
        assert_eq!(encoded, hex(code), "{text}");
        assert_eq!(huffman::encoded_len(text.as_bytes()), encoded.len());
        assert_eq!(huffman::decode(&encoded, &mut Vec::new()), Ok(text.as_bytes()));
    }
}

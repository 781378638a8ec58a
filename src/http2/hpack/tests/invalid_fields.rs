//! Fields that make a message malformed. The block is right, and the table keeps them.

use super::super::{Decoder, Name, Value};
use super::{decode, hex, pair};

/// Decodes a literal that enters the table, then the index of its entry, and checks both.
fn check(name: &[u8], value: &[u8], check: impl Fn(&Name, &Value)) {
    let mut block = vec![0x40];
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend_from_slice(text);
    }
    block.push(0xbe);
    let mut count = 0;
    let result = Decoder::new(4096).decode(&block, |field| {
        assert_eq!((field.name.as_bytes(), field.value.as_bytes()), (name, value));
        assert_eq!(field.size(), name.len() + value.len() + 32);
        check(&field.name, &field.value);
        count += 1;
    });
    assert_eq!((result, count), (Ok(()), 2));
}

#[test]
fn invalid_names() {
    for name in ["Content-Type", ":version", ":Path", ":", "a b", "a:b", "a\0", "é", ""] {
        check(name.as_bytes(), b"1", |name, _| assert!(matches!(name, Name::Invalid(_))));
    }
    let longest = [b'a'; 127];
    check(&longest[..126], b"1", |name, _| assert!(matches!(name, Name::Header(_))));
}

#[test]
fn invalid_values() {
    for value in ["\0", "a\nb", "a\rb", "\x7f", "\x1f"] {
        check(b"a", value.as_bytes(), |_, value| assert!(matches!(value, Value::Invalid(_))));
    }
}

#[test]
fn values_of_other_bytes_than_ascii_are_valid() {
    for value in [&b"\xff\x80"[..], "é".as_bytes(), b"a\tb", b""] {
        check(b"a", value, |_, value| assert!(matches!(value, Value::Header(_))));
    }
}

#[test]
fn pseudo_headers_are_parsed() {
    check(b":method", b"POST", |_, value| match value {
        Value::Method(method) => assert_eq!(method, http::Method::POST),
        _ => panic!("no method"),
    });
    check(b":path", b"/pkg.Service/Method?q", |_, value| match value {
        Value::Path(path) => assert_eq!(path.path(), "/pkg.Service/Method"),
        _ => panic!("no path"),
    });
    check(b":authority", b"localhost:50051", |_, value| match value {
        Value::Authority(authority) => assert_eq!(authority.port_u16(), Some(50051)),
        _ => panic!("no authority"),
    });
    check(b":scheme", b"https", |_, value| match value {
        Value::Scheme(scheme) => assert_eq!(scheme, "https"),
        _ => panic!("no scheme"),
    });
    check(b":protocol", b"websocket", |name, value| {
        assert!(matches!((name, value), (Name::Protocol, Value::Header(_))));
    });
    check(b":status", b"200", |name, value| {
        assert!(matches!((name, value), (Name::Status, Value::Header(_))));
    });
}

#[test]
fn invalid_pseudo_headers() {
    for (name, value) in [
        (":method", ""),
        (":method", "GET POST"),
        (":path", ""),
        (":path", "no/slash"),
        (":path", "/a b"),
        (":path", "/a#fragment"),
        (":path", "#"),
        (":authority", ""),
        (":authority", "a/b"),
        (":scheme", "http:"),
        (":status", "\0"),
    ] {
        check(name.as_bytes(), value.as_bytes(), |name, value| {
            assert!(!matches!(name, Name::Invalid(_)));
            assert!(matches!(value, Value::Invalid(_)));
        });
    }
}

#[test]
fn names_of_the_static_table_with_other_values() {
    // `:path` by its index, and the name of an invalid entry by its index.
    let mut decoder = Decoder::new(4096);
    assert_eq!(decode(&mut decoder, &hex("44 022f61")), Ok(vec![pair(":path", "/a")]));
    assert_eq!(decode(&mut decoder, &hex("40 0141 0131")), Ok(vec![pair("A", "1")]));
    assert_eq!(decode(&mut decoder, &hex("7e 0132")), Ok(vec![pair("A", "2")]));
    let expected = vec![pair("A", "2"), pair("A", "1"), pair(":path", "/a")];
    assert_eq!(decoder.dynamic_table().0, expected);
}

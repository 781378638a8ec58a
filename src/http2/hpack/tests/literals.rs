//! Literals that are not indexed, and that a peer repeats.

use super::super::{DecodeError, Decoder};
use super::{decode, hex, pair};

#[test]
fn a_repeated_literal_is_the_same_field() {
    let mut decoder = Decoder::new(4096);
    // `:path` and `authorization` of the static table, and a name of its own.
    let block = hex("04 022f61 0f08 0178 00 0161 0162 82");
    let expected = vec![
        pair(":path", "/a"),
        pair("authorization", "x"),
        pair("a", "b"),
        pair(":method", "GET"),
    ];
    for _ in 0..3 {
        assert_eq!(decode(&mut decoder, &block), Ok(expected.clone()));
    }
    // Other values with the same start.
    assert_eq!(decode(&mut decoder, &hex("04 032f6162")), Ok(vec![pair(":path", "/ab")]));
    assert_eq!(decode(&mut decoder, &hex("04 022f62")), Ok(vec![pair(":path", "/b")]));
    assert_eq!(decode(&mut decoder, &hex("04 022f")), Err(DecodeError::Truncated));
}

#[test]
fn the_name_of_a_repeated_literal_is_that_of_the_table_now() {
    let mut decoder = Decoder::new(4096);
    // Index 62 is `a`, then `b`.
    let literal = hex("0f2f 0131");
    decode(&mut decoder, &hex("4001610130")).unwrap();
    assert_eq!(decode(&mut decoder, &literal), Ok(vec![pair("a", "1")]));
    decode(&mut decoder, &hex("4001620130")).unwrap();
    assert_eq!(decode(&mut decoder, &literal), Ok(vec![pair("b", "1")]));
}

#[test]
fn a_size_update_behind_a_repeated_literal_is_late() {
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &hex("04 022f61")).unwrap();
    let error = Err(DecodeError::LateTableSizeUpdate);
    assert_eq!(decode(&mut decoder, &hex("04 022f61 20")), error);
}

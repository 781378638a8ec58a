//! Blocks that break a rule, and bounds that a block may just reach.

use super::super::DecodeError::{
    HuffmanEos, HuffmanPadding, IntegerOverflow, InvalidIndex, LateTableSizeUpdate,
    TableSizeTooLarge, Truncated,
};
use super::super::{DecodeError, Decoder};
use super::{Pair, decode, hex, pair};

fn decode_first(block: &str) -> Result<Vec<Pair>, DecodeError> {
    decode(&mut Decoder::new(4096), &hex(block))
}

#[test]
fn an_empty_block_has_no_fields() {
    assert_eq!(decode_first(""), Ok(vec![]));
}

#[test]
fn index_zero() {
    assert_eq!(decode_first("80"), Err(InvalidIndex { index: 0, max: 61 }));
}

#[test]
fn an_index_beyond_the_tables() {
    assert_eq!(decode_first("be"), Err(InvalidIndex { index: 62, max: 61 }));
    // As the index of a name, in each kind of literal.
    for first in ["7e", "0f2f", "1f2f"] {
        let block = format!("{first} 0161");
        assert_eq!(decode_first(&block), Err(InvalidIndex { index: 62, max: 61 }), "{block}");
    }
    // One entry, then the index after it.
    assert_eq!(decode_first("4001610162 be"), Ok(vec![pair("a", "b"), pair("a", "b")]));
    assert_eq!(decode_first("4001610162 bf"), Err(InvalidIndex { index: 63, max: 62 }));
    // The largest integer.
    let max = u32::MAX as usize;
    assert_eq!(decode_first("ff 80ffffff0f"), Err(InvalidIndex { index: max, max: 61 }));
}

#[test]
fn integers_of_more_than_32_bits() {
    assert_eq!(decode_first("ff 81ffffff0f"), Err(IntegerOverflow));
    assert_eq!(decode_first("ff ffffffff7f"), Err(IntegerOverflow));
    assert_eq!(decode_first("ff 808080808000"), Err(IntegerOverflow));
    assert_eq!(decode_first("ff ffffffffffffffffffff7f"), Err(IntegerOverflow));
    // The same in the length of a string, and in a size update.
    assert_eq!(decode_first("00 7f 81ffffff0f"), Err(IntegerOverflow));
    assert_eq!(decode_first("3f ffffffffff7f"), Err(IntegerOverflow));
    // Five octets are as many as a number of 32 bits takes; also if it would need fewer.
    assert_eq!(decode_first("3f 8080808000 82"), Ok(vec![pair(":method", "GET")]));
}

#[test]
fn a_block_that_ends_within_a_field() {
    let blocks = [
        hex("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"),
        hex("4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"),
        hex("0f 00 7f 00").into_iter().chain([b'a'; 127]).collect(),
        hex("ff 80 01"),
        hex("3f 80 01"),
    ];
    for block in blocks {
        let cut = 1..block.len();
        for end in cut {
            let result = decode(&mut Decoder::new(4096), &block[..end]);
            assert_eq!(result, Err(Truncated), "{end} octets of {block:02x?}");
        }
    }
    // Far more than there is: nothing is allocated for it.
    assert_eq!(decode_first("00 7f 80ffffff0f 61"), Err(Truncated));
}

#[test]
fn huffman_padding() {
    // "a" is 00011.
    assert_eq!(decode_first("40 811f 0162"), Ok(vec![pair("a", "b")]));
    for (name, rule) in [
        ("8118", "zeros"),
        ("811e", "a zero as the last bit"),
        ("821fff", "11 bits"),
        ("81ff", "8 bits and nothing else"),
        ("84ffffffff", "32 bits, which contain EOS"),
        // "0" is 00000, ":" is 1011100, of which 3 bits are here.
        ("8105", "a part of a code"),
        // "\\" has 19 bits.
        ("82fffe", "a part of a long code"),
    ] {
        let result = decode_first(&format!("40 {name} 0162"));
        assert!(matches!(result, Err(HuffmanPadding | HuffmanEos)), "{rule}: {result:?}");
    }
    // An empty text has no padding.
    assert_eq!(decode_first("40 0161 80"), Ok(vec![pair("a", "")]));
}

#[test]
fn huffman_padding_of_each_length() {
    // "0" is 00000.
    for count in 1..=8 {
        let bits: usize = count * 5;
        let octets = bits.div_ceil(8);
        let padding = (1_u64 << (octets * 8 - bits)) - 1;
        let code = &padding.to_be_bytes()[8 - octets..];
        let block = [&hex("40 0161"), &[0x80 | octets as u8][..], code].concat();
        let text = "0".repeat(count);
        assert_eq!(decode(&mut Decoder::new(4096), &block), Ok(vec![pair("a", &text)]));

        let block = [&hex("40 0161"), &[0x81 + octets as u8][..], code, &[0xff]].concat();
        let result = decode(&mut Decoder::new(4096), &block);
        assert_eq!(result, Err(HuffmanPadding), "8 bits more behind {text}");
    }
}

#[test]
fn huffman_eos() {
    // 30 ones, alone, with padding, and behind "a".
    for code in ["84fffffffc", "84ffffffff", "851fffffffff"] {
        assert_eq!(decode_first(&format!("40 0161 {code}")), Err(HuffmanEos), "{code}");
    }
}

#[test]
fn a_table_size_above_the_announced_maximum() {
    // 4096 and 4097.
    assert_eq!(decode_first("3fe11f 82"), Ok(vec![pair(":method", "GET")]));
    let error = Err(TableSizeTooLarge { size: 4097, max: 4096 });
    assert_eq!(decode_first("3fe21f 82"), error);
    // The maximum is that of the decoder, whatever the table has now.
    assert_eq!(decode_first("20 3fe11f"), Ok(vec![]));
    assert_eq!(decode_first("20 3fe21f"), error);
}

#[test]
fn a_table_size_update_behind_a_field() {
    assert_eq!(decode_first("82 20"), Err(LateTableSizeUpdate));
    assert_eq!(decode_first("4001610162 20"), Err(LateTableSizeUpdate));
    assert_eq!(decode_first("0001610162 3fe11f"), Err(LateTableSizeUpdate));
    // Each block may begin with updates.
    let mut decoder = Decoder::new(4096);
    for _ in 0..2 {
        assert_eq!(decode(&mut decoder, &hex("20 3fe11f 82")), Ok(vec![pair(":method", "GET")]));
    }
}

#[test]
fn a_table_size_update_evicts() {
    let mut decoder = Decoder::new(4096);
    // Three entries of 34 bytes.
    decode(&mut decoder, &hex("4001610131 4001620132 4001630133")).unwrap();
    let [a, b, c] = [pair("a", "1"), pair("b", "2"), pair("c", "3")];
    assert_eq!(decoder.dynamic_table(), (vec![c.clone(), b.clone(), a], 102));
    // 101 bytes
    decode(&mut decoder, &hex("3f46")).unwrap();
    assert_eq!(decoder.dynamic_table(), (vec![c.clone(), b], 68));
    // The entries stay evicted when the table grows again.
    decode(&mut decoder, &hex("3f03 3fe11f")).unwrap();
    assert_eq!(decoder.dynamic_table(), (vec![c], 34));
    decode(&mut decoder, &hex("20")).unwrap();
    assert_eq!(decoder.dynamic_table(), (vec![], 0));
    // A table of no bytes takes no entry, and the field is there all the same.
    assert_eq!(decode(&mut decoder, &hex("4001610131")), Ok(vec![pair("a", "1")]));
    assert_eq!(decoder.dynamic_table(), (vec![], 0));
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(40);
    // 34, then exactly 40 bytes.
    decode(&mut decoder, &hex("4001610131")).unwrap();
    assert_eq!(
        decode(&mut decoder, &hex("40 0161 0731323334353637")).map(|list| list.len()),
        Ok(1)
    );
    assert_eq!(decoder.dynamic_table(), (vec![pair("a", "1234567")], 40));
    // 41 bytes, with the name of the entry that is evicted.
    let large = decode(&mut decoder, &hex("7e 083132333435363738"));
    assert_eq!(large, Ok(vec![pair("a", "12345678")]));
    assert_eq!(decoder.dynamic_table(), (vec![], 0));
}

#[test]
fn a_name_of_an_entry_that_is_evicted_for_it() {
    let mut decoder = Decoder::new(40);
    decode(&mut decoder, &hex("4001610131")).unwrap();
    assert_eq!(decode(&mut decoder, &hex("7e 0132")), Ok(vec![pair("a", "2")]));
    assert_eq!(decoder.dynamic_table(), (vec![pair("a", "2")], 34));
}

#[test]
fn a_maximum_above_the_default_is_used_after_an_update() {
    let mut decoder = Decoder::new(8192);
    let mut block = hex("40 0161 7f 81 1f");
    block.extend([b'x'; 4096]);
    decode(&mut decoder, &block).unwrap();
    assert_eq!(decoder.dynamic_table(), (vec![], 0));
    // 8192
    let update = hex("3fe13f");
    decode(&mut decoder, &[update, block].concat()).unwrap();
    assert_eq!(decoder.dynamic_table().1, 32 + 1 + 4096);
}

#[test]
fn errors_name_the_rule() {
    let texts = [
        (Truncated, "the header block ends within a field"),
        (InvalidIndex { index: 70, max: 61 }, "no entry has the index 70; wanted 1 to 61"),
        (
            TableSizeTooLarge { size: 4097, max: 4096 },
            "a dynamic table of 4097 bytes is too large; wanted at most 4096",
        ),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
    }
}

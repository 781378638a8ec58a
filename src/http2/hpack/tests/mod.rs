mod appendix_c;
mod encoding;
mod errors;
mod invalid_fields;
mod literals;
mod random;

use super::{DecodeError, Decoder, Field};

/// A name and a value.
type Pair = (String, String);

fn pair(name: &str, value: &str) -> Pair {
    (name.to_owned(), value.to_owned())
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Pair>, DecodeError> {
    let mut fields = Vec::new();
    decoder.decode(block, |field: &Field| {
        let (name, value) = (field.name.as_bytes(), field.value.as_bytes());
        assert_eq!(field.size(), name.len() + value.len() + 32);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        fields.push((text(name), text(value)));
    })?;
    Ok(fields)
}

/// The octets of hexadecimal digits, between which white space may stand.
fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

//! Percent-encoding of status messages (PROTOCOL-HTTP2, "Status-Message"), sans I/O.

use http::HeaderValue;

/// Encodes `message` for `grpc-message`. Each UTF-8 byte outside of 0x20 to 0x7E, and `%`, is
/// percent-encoded with upper-case digits.
pub fn encode_message(message: &str) -> HeaderValue {
    encode_within(usize::MAX, message)
}

/// Encodes as many characters from the start of `message` as fit into `max` bytes.
pub(crate) fn encode_within(max: usize, message: &str) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let plain = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b'%';
    let encoded = if message.len() <= max && message.bytes().all(plain) {
        HeaderValue::from_str(message)
    } else {
        let mut text = Vec::with_capacity(max.min(message.len() * 3));
        for character in message.chars() {
            let start = text.len();
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                if plain(byte) {
                    text.push(byte);
                } else {
                    text.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                }
            }
            if text.len() > max {
                text.truncate(start);
                break;
            }
        }
        HeaderValue::from_bytes(&text)
    };
    encoded.expect("printable ASCII is a header value")
}

/// Decodes a `grpc-message`. It never fails, so that no message of an incorrect peer is lost. An
/// invalid escape stays as it is. Invalid UTF-8 becomes U+FFFD.
pub fn decode_message(value: &[u8]) -> String {
    let digit = |at: usize| value.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(value.len());
    let mut at = 0;
    while let Some(&byte) = value.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_message_is_encoded_with_upper_case_hex() {
        for (message, encoded) in [
            ("plain text ~", "plain text ~"),
            ("100%", "100%25"),
            ("line\nbreak\t", "line%0Abreak%09"),
            ("é世\u{7f}", "%C3%A9%E4%B8%96%7F"),
        ] {
            assert_eq!(encode_message(message), encoded);
            assert_eq!(decode_message(encoded.as_bytes()), message);
        }
    }

    #[test]
    fn status_message_is_cut_between_characters() {
        for (character, encoded) in [("x", 1), ("%", 3), ("é", 6), ("世", 9)] {
            let message = character.repeat(50);
            for max in 0..=51 * encoded {
                let cut = encode_within(max, &message);
                let count = (max / encoded).min(50);
                assert_eq!(cut.len(), count * encoded, "{character} in {max}");
                assert_eq!(decode_message(cut.as_bytes()), character.repeat(count));
            }
        }
    }

    #[test]
    fn status_message_of_any_length_is_encoded() {
        for character in ["x", "%", "é"] {
            let message = character.repeat(100_000);
            assert_eq!(decode_message(encode_message(&message).as_bytes()), message);
        }
    }

    #[test]
    fn status_message_keeps_broken_escapes() {
        for text in ["%", "%4", "%zz", "50%"] {
            assert_eq!(decode_message(text.as_bytes()), text);
        }
        assert_eq!(decode_message(b"%FF"), "\u{fffd}");
    }
}

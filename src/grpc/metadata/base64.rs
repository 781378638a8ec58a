use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::header::HeaderValue;

use super::keys::{Fault, InvalidMetadata};

/// Accepts padded and unpadded input, as the specification requires of receivers.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(crate) fn encode_bin(value: &[u8]) -> HeaderValue {
    let text = STANDARD_NO_PAD.encode(value);
    HeaderValue::try_from(text).expect("base64 is made of characters that a header may hold")
}

/// Decodes one `-bin` value, with or without padding.
///
/// # Errors
/// [`InvalidMetadata`] if it is not base64.
pub fn decode_bin(value: &[u8]) -> Result<Bytes, InvalidMetadata> {
    match LENIENT.decode(value.trim_ascii()) {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => Err(InvalidMetadata(Fault::Base64)),
    }
}

//! Bytes survive the way through a `-bin` header, alone and as one of several; what a peer sends
//! there is read with and without padding, or refused.

#![no_main]

use balafon::grpc::metadata::decode_bin;
use balafon::{BinaryKey, Metadata};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

static KEY: BinaryKey = BinaryKey::from_static("fuzz-bin");

fuzz_target!(|bytes: &[u8]| {
    let encoded = round_trip(bytes);
    let padded = format!("{encoded:=<0$}", encoded.len().next_multiple_of(4));
    assert_eq!(decode_bin(padded.as_bytes()), Ok(Bytes::copy_from_slice(bytes)));

    if let Ok(decoded) = decode_bin(bytes) {
        assert!(decoded.len() <= bytes.len(), "base64 never grows when it is decoded");
        round_trip(&decoded);
    }
});

/// Gives the text of the header.
fn round_trip(bytes: &[u8]) -> String {
    let mut metadata = Metadata::new();
    metadata.insert_bin(&KEY, bytes);
    let value = &metadata.as_headers()[KEY.as_str()];
    let text = value.to_str().expect("base64 is ASCII").to_owned();
    assert!(!text.contains(['=', ',']), "padding or a separator in {text}");
    assert_eq!(metadata.get_bin(&KEY), Some(Ok(Bytes::copy_from_slice(bytes))));

    // A proxy may join the values of one name.
    let mut joined = http::HeaderMap::new();
    let value = http::HeaderValue::try_from(format!("AQ==,{text}, {text}"));
    joined.insert(KEY.as_str(), value.expect("base64 is a header value"));
    let values: Result<Vec<_>, _> = Metadata::from(joined).get_all_bin(&KEY).collect();
    assert_eq!(values.expect("each is base64"), [&[1][..], bytes, bytes]);
    text
}

//! Every message survives the way through `grpc-message`, in the only form that the specification
//! lets a sender use; and nothing that a peer sends there is too odd to read.

#![no_main]

use balafon::grpc::status::{decode_message, encode_message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    round_trip(&String::from_utf8_lossy(bytes));
    // What a peer sent is a message like any other once it is read.
    round_trip(&decode_message(bytes));
});

fn round_trip(message: &str) {
    let header = encode_message(message);
    let encoded = header.as_bytes();
    assert!(encoded.iter().all(|byte| (0x20..=0x7e).contains(byte)), "not printable: {header:?}");
    for (at, _) in encoded.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let digits = encoded.get(at + 1..at + 3).expect("an escape has two digits");
        let upper = |digit: &u8| matches!(digit, b'0'..=b'9' | b'A'..=b'F');
        assert!(digits.iter().all(upper), "not an upper-case escape: {header:?}");
    }
    assert_eq!(decode_message(encoded), message);
}

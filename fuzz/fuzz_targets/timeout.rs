//! `timeout::parse` agrees with a reading of the specification that does no clever arithmetic.

#![no_main]

use balafon::grpc::timeout;
use libfuzzer_sys::fuzz_target;

/// A hundred years in nanoseconds: from there on a timeout sets no deadline.
const LONGEST: u128 = 100 * 365 * 24 * 3600 * 1_000_000_000;

fuzz_target!(|value: &[u8]| {
    let parsed = timeout::parse(value).ok();
    let parsed = parsed.map(|timeout| timeout.map(|timeout| timeout.as_nanos()));
    assert_eq!(parsed, reference(value));
});

/// TimeoutValue {positive integer as ASCII string of at most 8 digits} and TimeoutUnit, in
/// nanoseconds.
fn reference(value: &[u8]) -> Option<Option<u128>> {
    let text = std::str::from_utf8(value).ok()?;
    let unit = text.chars().last()?;
    let digits = &text[..text.len() - unit.len_utf8()];
    if !(1..=8).contains(&digits.len()) || !digits.chars().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let nanos: u128 = match unit {
        'H' => 3_600_000_000_000,
        'M' => 60_000_000_000,
        'S' => 1_000_000_000,
        'm' => 1_000_000,
        'u' => 1_000,
        'n' => 1,
        _ => return None,
    };
    let timeout = digits.parse::<u128>().ok()? * nanos;
    Some((timeout < LONGEST).then_some(timeout))
}

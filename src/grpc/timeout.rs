//! The `grpc-timeout` header (PROTOCOL-HTTP2, "Timeout").

use std::fmt;
use std::time::Duration;

/// Longer timeouts set no deadline. Clients without a deadline send the largest value that they
/// can, such as `99999999H` (11,415 years), which exceeds the range of clocks.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A `grpc-timeout` value that is not one to eight digits and a unit.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed grpc-timeout: wanted 1 to 8 digits and one of H M S m u n")
    }
}

impl std::error::Error for Malformed {}

/// Parses one to eight digits and a unit: `H` (hours), `M` (minutes), `S` (seconds), `m`
/// (milliseconds), `u` (microseconds) or `n` (nanoseconds). Returns `None` for a timeout so long
/// that it sets no deadline.
pub fn parse(value: &[u8]) -> Result<Option<Duration>, Malformed> {
    let (unit, digits) = value.split_last().ok_or(Malformed)?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    let amount = digits.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
    let timeout = match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return Err(Malformed),
    };
    Ok((timeout < LONGEST).then_some(timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_accepts_every_unit() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("6n", Duration::from_nanos(6)),
            ("00000007S", Duration::from_secs(7)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("0S", Duration::ZERO),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(Some(expected)), "{text}");
        }
    }

    #[test]
    fn timeout_that_is_huge_sets_no_deadline() {
        assert_eq!(parse(b"99999999H"), Ok(None));
        assert_eq!(parse(b"99999999M"), Ok(None));
        assert!(matches!(parse(b"99999999S"), Ok(Some(_))));
    }

    #[test]
    fn timeout_in_another_form_is_malformed() {
        for text in ["", "S", "1", "1x", "1s", "-1S", "+1S", " 1S", "1S ", "1.5S", "123456789S"] {
            assert_eq!(parse(text.as_bytes()), Err(Malformed), "{text:?}");
        }
        assert_eq!(parse("１S".as_bytes()), Err(Malformed));
        assert!(Malformed.to_string().contains("1 to 8 digits and one of H M S m u n"));
    }

    #[test]
    fn timeout_of_a_century_sets_no_deadline() {
        assert_eq!(parse(b"876000H"), Ok(None));
        assert_eq!(parse(b"875999H"), Ok(Some(Duration::from_secs(875_999 * 3600))));
    }
}

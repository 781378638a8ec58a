//! Durations and sizes as users write them. A unit is required: a plain number could be seconds or
//! milliseconds.

use std::time::Duration;

pub(super) const DURATIONS: &str =
    "a duration with its unit (ms, s, m, h, d), such as 500ms, 30s or 1h30m";

pub(super) const SIZES: &str = "a size with its unit (B, KiB, MiB, GiB), such as 16KiB or 4MiB";

/// Parses `1h30m`: numbers, each with a unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = number(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let millis = match &after[..end] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            "d" => 24 * 60 * 60 * 1000,
            _ => return None,
        };
        sum = sum.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = &after[end..];
    }
    if text.is_empty() { None } else { Some(sum) }
}

/// Parses `4MiB`, one number and a unit, to bytes.
pub(super) fn size(text: &str) -> Option<usize> {
    let (number, unit) = number(text)?;
    let bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)?.try_into().ok()
}

/// The whole number at the start, and the rest of the text.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_needs_units() {
        for (text, millis) in
            [("0s", 0), ("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("2d", 172_800_000)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "1.5h", "-1s", "30 s", "30S", "30s5", "30sec", "9999999999999d"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn size_needs_a_binary_unit() {
        for (text, bytes) in [("0B", 0), ("512B", 512), ("16KiB", 16384), ("1GiB", 1 << 30)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "4", "MiB", "4MB", "4 MiB", "4M", "-4MiB", "1MiB1KiB", "99999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}

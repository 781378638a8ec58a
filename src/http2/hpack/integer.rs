//! Integers (RFC 7541 section 5.1), and the reading of a header block.

use super::decoder::DecodeError;

/// The unread part of a header block.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(block: &'a [u8]) -> Self {
        Self(block)
    }

    /// Returns the unread octets.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn octets(&mut self, count: usize) -> Option<&'a [u8]> {
        let (octets, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(octets)
    }

    /// Reads the rest of an integer. `first` is its first octet. `prefix` has the bits of that octet
    /// that belong to it.
    ///
    /// # Errors
    /// If the integer is above `u32::MAX`, or longer than an integer of 32 bits can be.
    pub(super) fn integer(&mut self, first: u8, prefix: u8) -> Result<usize, DecodeError> {
        if first & prefix != prefix {
            return Ok(usize::from(first & prefix));
        }
        self.long_integer(prefix)
    }

    fn long_integer(&mut self, prefix: u8) -> Result<usize, DecodeError> {
        // 35 bits and a prefix of 8: far from an overflow.
        let mut value = u64::from(prefix);
        for shift in [0, 7, 14, 21, 28] {
            let octet = self.octet().ok_or(DecodeError::Truncated)?;
            value += u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                let value = u32::try_from(value).map_err(|_| DecodeError::IntegerOverflow)?;
                return usize::try_from(value).map_err(|_| DecodeError::IntegerOverflow);
            }
        }
        Err(DecodeError::IntegerOverflow)
    }
}

/// Appends an integer. `prefix` has the bits of the first octet that belong to the integer, and
/// `pattern` the others.
#[inline]
pub(super) fn encode(pattern: u8, prefix: u8, value: usize, out: &mut Vec<u8>) {
    match value.checked_sub(usize::from(prefix)) {
        None => out.push(pattern | value as u8),
        Some(rest) => {
            out.push(pattern | prefix);
            encode_rest(rest, out);
        }
    }
}

fn encode_rest(mut rest: usize, out: &mut Vec<u8>) {
    while rest > 0x7f {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

//! Literals that a peer repeats instead of indexing them, such as `:path` and `authorization`.

use super::field::Field;
use super::static_table;

/// The last literals, by their octets in the block. Equal octets are the same field again, as long as
/// they name no entry of the dynamic table.
#[derive(Default)]
pub(super) struct RecentLiterals {
    literals: Vec<Literal>,
    /// The place of the oldest literal.
    oldest: usize,
}

struct Literal {
    octets: Vec<u8>,
    field: Field,
}

/// Enough for the path and the token of a client, and for clients that call a few methods by turns.
const MAX_LITERALS: usize = 4;

/// Enough for most tokens. At most four of these and their texts, 11 KiB, are kept.
const MAX_OCTETS: usize = 1024;

impl RecentLiterals {
    /// Returns the literal that a block starts with, and the block behind it.
    pub(super) fn find<'b>(&self, block: &'b [u8]) -> Option<(&Field, &'b [u8])> {
        for literal in &self.literals {
            if let Some(behind) = block.strip_prefix(&literal.octets[..]) {
                return Some((&literal.field, behind));
            }
        }
        None
    }

    /// Keeps the literal that a block starts with, unless it is too long, or names an entry of the
    /// dynamic table. `behind` is the block behind it.
    pub(super) fn insert(&mut self, block: &[u8], behind: &[u8], field: Field) {
        let Some(octets) = block.strip_suffix(behind) else {
            return;
        };
        // A name as a literal or by an index of the static table, in a prefix of 4 bits.
        const LAST: u8 = (static_table::LEN - 0x0f) as u8;
        let is_static = matches!(octets, [0x00..=0x0e, ..] | [0x0f, 0x00..=LAST, ..]);
        if octets.len() > MAX_OCTETS || !is_static {
            return;
        }
        if self.literals.len() < MAX_LITERALS {
            self.literals.push(Literal { octets: octets.to_vec(), field });
        } else if let Some(literal) = self.literals.get_mut(self.oldest) {
            literal.octets.clear();
            literal.octets.extend_from_slice(octets);
            literal.field = field;
            self.oldest = (self.oldest + 1) % MAX_LITERALS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::field::Name;
    use super::{Field, MAX_LITERALS, MAX_OCTETS, RecentLiterals};

    fn field(value: &str) -> Field {
        Field::parse(Name::Path, value.as_bytes(), false)
    }

    #[test]
    fn the_last_literals_are_kept() {
        let mut recent = RecentLiterals::default();
        for value in ["/1", "/2", "/3", "/4", "/5"] {
            let octets = [&[0x04, 0x02], value.as_bytes()].concat();
            recent.insert(&octets, &[], field(value));
        }
        assert_eq!(recent.literals.len(), MAX_LITERALS);
        assert!(recent.find(b"\x04\x02/1").is_none());
        for value in ["/2", "/3", "/4", "/5"] {
            let block = [&[0x04, 0x02], value.as_bytes(), b"rest"].concat();
            let (literal, behind) = recent.find(&block).unwrap();
            assert_eq!((literal.value.as_bytes(), behind), (value.as_bytes(), &b"rest"[..]));
        }
        assert!(recent.find(b"\x04\x02/").is_none());
        assert!(recent.find(b"").is_none());
    }

    #[test]
    fn long_literals_are_not_kept() {
        let mut recent = RecentLiterals::default();
        recent.insert(&[0x04; MAX_OCTETS + 1], &[], field("/"));
        assert!(recent.literals.is_empty());
        recent.insert(&[0x04; MAX_OCTETS], &[], field("/"));
        assert_eq!(recent.literals.len(), 1);
    }

    #[test]
    fn names_of_the_dynamic_table_are_not_kept() {
        // The index 62, which may be another name in the next block; 61 is of the static table.
        let mut recent = RecentLiterals::default();
        recent.insert(&[0x0f, 62 - 15, 0], &[], field("/"));
        recent.insert(&[0x0f, 0x80, 0x01, 0], &[], field("/"));
        assert!(recent.literals.is_empty());
        recent.insert(&[0x0f, 61 - 15, 0], &[], field("/"));
        assert_eq!(recent.literals.len(), 1);
    }
}

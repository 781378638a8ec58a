//! The table of a decoder: the static table, and the dynamic table behind it (RFC 7541 section 2.3).

use std::collections::VecDeque;

use super::field::Field;
use super::static_table;

/// The memory of an entry is a [`Field`] and the allocations of its texts. As an entry counts as at
/// least 32 bytes, a table of 4096 bytes has at most 128 entries.
pub(super) struct Table {
    /// The newest entry is the first.
    dynamic: VecDeque<Field>,
    /// The sum of the sizes of the entries.
    size: usize,
    max_size: usize,
    changes: u64,
}

impl Table {
    pub(super) fn new(max_size: usize) -> Self {
        Self { dynamic: VecDeque::new(), size: 0, max_size, changes: 0 }
    }

    /// Returns how often the table has changed. While it is the same, equal blocks are equal header
    /// lists.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn get(&self, index: usize) -> Option<&Field> {
        let at = index.checked_sub(1)?;
        match at.checked_sub(static_table::LEN) {
            None => static_table::ENTRIES.get(at),
            Some(at) => self.dynamic.get(at),
        }
    }

    /// Returns the highest index.
    pub(super) fn len(&self) -> usize {
        static_table::LEN + self.dynamic.len()
    }

    /// Adds an entry, after it has evicted the oldest entries. An entry that is larger than the table
    /// empties it, and is not added (RFC 7541 section 4.4).
    pub(super) fn insert(&mut self, field: Field) {
        self.changes += 1;
        match self.max_size.checked_sub(field.size()) {
            None => self.evict_down_to(0),
            Some(room) => {
                self.evict_down_to(room);
                self.size += field.size();
                self.dynamic.push_front(field);
            }
        }
    }

    pub(super) fn set_max_size(&mut self, max_size: usize) {
        self.changes += 1;
        self.max_size = max_size;
        self.evict_down_to(max_size);
    }

    #[cfg(test)]
    pub(super) fn dynamic(&self) -> (Vec<(String, String)>, usize) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let entries = self.dynamic.iter();
        let entries =
            entries.map(|field| (text(field.name.as_bytes()), text(field.value.as_bytes())));
        (entries.collect(), self.size)
    }

    fn evict_down_to(&mut self, size: usize) {
        while self.size > size {
            match self.dynamic.pop_back() {
                Some(oldest) => self.size -= oldest.size(),
                None => self.size = 0,
            }
        }
    }
}

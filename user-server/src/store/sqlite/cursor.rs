//! The order of users, and the position of a scan.
//!
//! ```text
//!  imported users, by time of creation      |  users that this program has created, by id
//!    index users_brought_in, mostly empty   |    the table itself
//! ```
//!
//! An [`IdSequence`] issues increasing UUIDs of version 7. The users that another program has written to the file can
//! have any id. In order of ids, such a user could be after all future users, or among users that a client has seen.
//!
//! [`IdSequence`]: super::IdSequence

use super::rows::{Position, key};
use super::{Extent, FIRST_PAGE_LEN, PAGE_LEN};
use crate::domain::UserId;

/// SQL: whether a sequence can have issued an id. It is a UUID of version 7 and of the variant of RFC 9562, with a time
/// before the year 6429, so that greater ids exist. The index in `schema.rs` has the opposite condition.
pub(super) const ISSUED: &str = "(length(id) = 16 AND id < x'80' \
    AND substr(id, 7, 1) >= x'70' AND substr(id, 7, 1) < x'80' \
    AND substr(id, 9, 1) >= x'80' AND substr(id, 9, 1) < x'c0')";

/// The same condition as [`ISSUED`].
pub(super) fn is_issued(id: &[u8]) -> bool {
    id.len() == 16 && id[0] < 0x80 && id[6] >> 4 == 7 && id[8] >> 6 == 0b10
}

/// The position of a scan.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    pub(super) imported: Imported,
    /// The issued ids that remain are above this key. Every key is greater than the empty one.
    pub(super) after: Vec<u8>,
    /// The last issued id of the scan; empty if there is none.
    pub(super) until: Vec<u8>,
    /// The number of users on the next page.
    pub(super) len: usize,
}

/// The imported users that remain.
#[derive(Clone, Debug)]
pub(super) enum Imported {
    /// Those after this user, if it is imported. All, if no user has this id.
    AfterUser(UserId),
    /// Those after this position; all for `None`.
    After(Option<Position>),
    None,
}

impl Cursor {
    /// The start of a scan. `None` if there are no users.
    pub(super) fn new(after: Option<UserId>, extent: Extent) -> Option<Self> {
        let until = extent.newest.map_or(Vec::new(), |until| key(&until).into());
        let (imported, after) = match after {
            None => (Imported::After(None), Vec::new()),
            Some(id) if is_issued(&key(&id)) => (Imported::None, key(&id).into()),
            Some(id) => (Imported::AfterUser(id), Vec::new()),
        };
        let is_over = matches!(imported, Imported::None) && until <= after;
        if extent.total == 0 || is_over {
            return None;
        }
        Some(Self { imported, after, until, len: FIRST_PAGE_LEN })
    }

    /// Sets the length of the next page to twice that of the last one. So little is read for a client that does not read,
    /// and long users do not make the store read many more rows than fit.
    pub(super) fn lengthened(self, users: usize) -> Self {
        Self { len: (2 * users).clamp(FIRST_PAGE_LEN, PAGE_LEN), ..self }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rusqlite::Connection;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn issued_ids_are_the_same_in_sql_and_rust() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = format!("SELECT {ISSUED} FROM (SELECT ?1 AS id)");
        let mut statement = connection.prepare(&sql).unwrap();
        let mut agree = |id: &[u8]| {
            let by_database: bool = statement.query_row([id], |row| row.get(0)).unwrap();
            assert_eq!(by_database, is_issued(id), "{id:x?}");
            by_database
        };
        let issued = *Uuid::now_v7().as_bytes();
        assert!(agree(&issued));
        assert!(!agree(Uuid::nil().as_bytes()) && !agree(Uuid::max().as_bytes()));
        assert!(!agree(&[]) && !agree(&issued[..15]) && !agree(&[&issued[..], &[0]].concat()));
        for position in [0, 6, 8] {
            for byte in 0..=u8::MAX {
                let mut id = issued;
                id[position] = byte;
                agree(&id);
            }
        }
    }
}

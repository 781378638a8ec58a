//! The order of users, and where a scan is in it.
//!
//! ```text
//!  users that were brought in, by time of creation  |  users that this program has created, by id
//!    index users_brought_in, mostly empty           |    the table itself
//! ```
//!
//! Ids that an [`IdSequence`] issues are UUIDs of version 7 and increase. Those of users that another program
//! has written to the file may be anything: such a user would stand behind all users that are still to be
//! created, or in the middle of users that a client has seen.
//!
//! [`IdSequence`]: super::IdSequence

use super::rows::key;
use super::{Extent, PAGE_LEN};
use crate::domain::UserId;

/// Whether an id is one that a sequence can have issued: a UUID of version 7 and of the variant of RFC 9562,
/// of a time before the year 6429, so that there are ids above it. The index in `schema.rs` has its opposite.
pub(super) const ISSUED: &str = "(length(id) = 16 AND id < x'80' \
    AND substr(id, 7, 1) >= x'70' AND substr(id, 7, 1) < x'80' \
    AND substr(id, 9, 1) >= x'80' AND substr(id, 9, 1) < x'c0')";

/// The same as [`ISSUED`].
pub(super) fn is_issued(id: &[u8]) -> bool {
    id.len() == 16 && id[0] < 0x80 && id[6] >> 4 == 7 && id[8] >> 6 == 0b10
}

/// How many users the first page has; each has twice as many as the one before it, up to those of a
/// whole page: a client that has no window for what it asks for holds little.
const FIRST_LEN: usize = 64;

/// What is left of a scan: some users, or else it is over.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    pub(super) brought_in: BroughtIn,
    /// The issued ids are above this key. Any key is greater than the empty one.
    pub(super) after: Vec<u8>,
    /// The last of the issued ids; empty if there are none.
    pub(super) until: Vec<u8>,
    /// How many users the next page has.
    pub(super) len: usize,
}

/// Which of the users that were brought in are left.
#[derive(Clone, Debug)]
pub(super) enum BroughtIn {
    /// Those behind this user, if it is one of them; all, if there is none with this id.
    BehindUser(UserId),
    /// Those behind this place; all, if it is `None`.
    Behind(Option<Place>),
    Over,
}

/// The place of a user that was brought in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) seconds: i64,
    pub(super) nanos: i64,
    pub(super) id: Vec<u8>,
}

impl Rest {
    /// Of a scan that begins. `None` if there are no users.
    pub(super) fn new(after: Option<UserId>, extent: Extent) -> Option<Self> {
        let until = extent.newest.map_or(Vec::new(), |until| key(&until).into());
        let (brought_in, after) = match after {
            None => (BroughtIn::Behind(None), Vec::new()),
            Some(id) if is_issued(&key(&id)) => (BroughtIn::Over, key(&id).into()),
            Some(id) => (BroughtIn::BehindUser(id), Vec::new()),
        };
        let is_over = matches!(brought_in, BroughtIn::Over) && until <= after;
        let rest = Self { brought_in, after, until, len: FIRST_LEN };
        (extent.total > 0 && !is_over).then_some(rest)
    }

    /// The same with a length for the page behind one of so many users: twice as many, so that little is
    /// read for a client that does not read it, and not many more than fit if they are long.
    pub(super) fn lengthened(self, users: usize) -> Self {
        Self { len: (2 * users).clamp(FIRST_LEN, PAGE_LEN), ..self }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rusqlite::Connection;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_database_and_the_program_agree_which_ids_are_issued() {
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

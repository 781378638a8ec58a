//! Users on their way out of a store.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::StoreError;
use crate::domain::{MAX_EMAIL_BYTES, MAX_NAME_CHARS, User, UserId};
use balafon::LogThrottle;

/// How many users a [`Page`] has at most. While it is read others wait who want the same thread or
/// connection: a third of a millisecond with SQLite. Whoever sends it is woken once for it: with a
/// quarter of this, SQLite has four fifths of the rate.
pub const PAGE_LEN: usize = 1024;

/// How many bytes of texts a page has at most: twice those of a page of typical users. It is what
/// bounds a page of long ones.
const PAGE_TEXTS: usize = 64 * 1024;

/// Those of the longest user; a character has up to four bytes.
const LONGEST: usize = 4 * MAX_NAME_CHARS + MAX_EMAIL_BYTES;

/// What a typical user has of them.
const TEXTS: usize = 32;

/// Every listing finds the same damaged users again.
static SKIPPED: Mutex<LogThrottle> = Mutex::new(LogThrottle::new(10));

/// Some users, in the order of a scan.
pub enum Page {
    /// Of a store that has them in memory.
    Shared(Vec<Arc<User>>),
    /// Of one that has read them for this page.
    Packed(Packed),
}

impl Page {
    /// How many users it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Shared(users) => users.len(),
            Self::Packed(packed) => packed.len(),
        }
    }

    /// Whether it has no users.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many users were left out because what is stored of them is damaged.
    pub fn skipped(&self) -> u64 {
        match self {
            Self::Shared(_) => 0,
            Self::Packed(packed) => packed.skipped,
        }
    }

    /// Bytes of memory that it holds; shared users are counted where they are stored.
    pub fn memory(&self) -> usize {
        match self {
            Self::Shared(users) => users.capacity() * size_of::<Arc<User>>(),
            Self::Packed(Packed { users, texts, .. }) => {
                users.capacity() * size_of::<User<usize>>() + texts.capacity()
            }
        }
    }

    /// The user at a position, from 0 on.
    pub fn get(&self, position: usize) -> Option<User<&str>> {
        match self {
            Self::Shared(users) => users.get(position).map(|user| user.borrowed()),
            Self::Packed(packed) => packed.get(position),
        }
    }

    /// Its users.
    pub fn iter(&self) -> impl Iterator<Item = User<&str>> {
        (0..self.len()).map_while(|position| self.get(position))
    }

    /// The id of its last user.
    pub fn last(&self) -> Option<UserId> {
        self.get(self.len().checked_sub(1)?).map(|user| user.id)
    }
}

impl From<Packed> for Page {
    fn from(packed: Packed) -> Self {
        Self::Packed(packed)
    }
}

/// Without the users, whose texts are personal data.
impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("users", &self.len()).finish_non_exhaustive()
    }
}

/// Users in two pieces of memory, however many they are.
///
/// With texts of their own they would be in thousands, made by the thread that reads and then given
/// back to it one by one by the thread that sends them.
pub struct Packed {
    /// In the place of each text, where it ends.
    users: Vec<User<usize>>,
    texts: String,
    /// How many users are enough.
    room: usize,
    skipped: u64,
}

impl Packed {
    /// No users, and room for so many, or for a whole page if that is less.
    pub fn with_room_for(users: usize) -> Self {
        let room = users.min(PAGE_LEN);
        let texts = String::with_capacity(TEXTS * room);
        Self { users: Vec::with_capacity(room), texts, room, skipped: 0 }
    }

    /// Adds a user, with an id above those of all others.
    pub fn push(&mut self, user: User<&str>) {
        let User { id, name, email, created_at, status } = user;
        let mut end = |text| {
            self.texts.push_str(text);
            self.texts.len()
        };
        let (name, email) = (end(name), end(email));
        self.users.push(User { id, name, email, created_at, status });
    }

    /// How many users it has.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether it has no users.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Leaves out a user that cannot be read, and logs why: `error` names it.
    pub fn skip(&mut self, error: &StoreError) {
        self.skipped += 1;
        let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
        skipped
            .log(|times| tracing::error!(%error, times, "a damaged user is left out of a listing"));
    }

    /// Whether they are as many as there was room for, or so long that another one may be too much.
    pub fn is_full(&self) -> bool {
        self.users.len() >= self.room || self.texts.len() + LONGEST > PAGE_TEXTS
    }

    fn get(&self, position: usize) -> Option<User<&str>> {
        let &User { id, name, email, created_at, status } = self.users.get(position)?;
        let before = position.checked_sub(1).map_or(0, |before| self.users[before].email);
        let (name, email) = (&self.texts[before..name], &self.texts[name..email]);
        Some(User { id, name, email, created_at, status })
    }
}

/// Likewise.
impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::{Timestamp, UserStatus};
    use uuid::Uuid;

    fn user<'a>(name: &'a str, email: &'a str) -> User<&'a str> {
        let (id, created_at) = (Uuid::now_v7().into(), Timestamp::now());
        User { id, name, email, created_at, status: UserStatus::Suspended }
    }

    #[test]
    fn users_come_out_of_a_page_as_they_went_in() {
        let users = [user("Alice", "a@b.co"), user("", ""), user("Юля", "юля@пример.рф")];
        let mut packed = Packed::with_room_for(1);
        users.iter().for_each(|user| packed.push(*user));
        let shared = users.iter().map(|user| Arc::new(user.into_owned())).collect();
        for page in [packed.into(), Page::Shared(shared)] {
            assert!(page.iter().eq(users));
            assert_eq!((page.len(), page.is_empty()), (3, false));
            assert_eq!((page.last(), page.get(3)), (Some(users[2].id), None));
        }
        let empty = Page::from(Packed::with_room_for(0));
        assert_eq!((empty.len(), empty.is_empty(), empty.last()), (0, true, None));
    }

    #[test]
    fn a_page_is_full_of_many_users_or_of_long_ones() {
        let long = ("😀".repeat(MAX_NAME_CHARS), "e".repeat(MAX_EMAIL_BYTES));
        let long = user(&long.0, &long.1);
        let many = PAGE_TEXTS / LONGEST;
        for (user, most) in [(user("Alice", "alice@example.com"), PAGE_LEN), (long, many)] {
            let mut packed = Packed::with_room_for(usize::MAX);
            while !packed.is_full() {
                packed.push(user);
            }
            assert!(packed.texts.capacity() <= PAGE_TEXTS);
            assert_eq!(Page::from(packed).len(), most);
        }
    }

    #[test]
    fn debug_output_holds_no_personal_data() {
        let mut packed = Packed::with_room_for(1);
        packed.push(user("Alice", "a@b.co"));
        assert_eq!(format!("{packed:?}"), "Packed { users: 1, .. }");
        assert_eq!(format!("{:?}", Page::from(packed)), "Page { users: 1, .. }");
    }
}

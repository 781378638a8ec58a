//! Pages of users, the result of a scan.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::StoreError;
use crate::domain::{MAX_EMAIL_BYTES, MAX_NAME_CHARS, User, UserId};
use balafon::LogThrottle;

/// The maximum number of users in a [`Page`]. A page occupies its thread or connection while it is read: a third
/// of a millisecond with SQLite. Its sender is woken once per page. With a quarter of this size, SQLite reaches
/// four fifths of the rate.
pub const PAGE_LEN: usize = 1024;

/// The number of users on the first page of a scan. Each page has twice as many as the one before, up to a whole page.
/// So a client that does not read, or that soon cancels, costs little.
pub const FIRST_PAGE_LEN: usize = 64;

/// The maximum size of the texts of a page, in bytes: twice that of a full page of typical users. It bounds a page
/// of long users.
const PAGE_TEXTS: usize = 64 * 1024;

/// The texts of the longest user, in bytes. A character has up to four bytes.
const LONGEST: usize = 4 * MAX_NAME_CHARS + MAX_EMAIL_BYTES;

/// The texts of a typical user, in bytes.
const TYPICAL_TEXTS: usize = 32;

/// Throttles the lines about damaged users: every scan finds the same users again.
static SKIPPED: Mutex<LogThrottle> = Mutex::new(LogThrottle::new(10));

/// Users in the order of a scan.
pub enum Page {
    /// From a store that has them in memory.
    Shared(Vec<Arc<User>>),
    /// From a store that has read them for this page.
    Packed(Packed),
}

impl Page {
    /// The number of users.
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

    /// The number of users that were left out because their stored data is damaged.
    pub fn skipped(&self) -> u64 {
        match self {
            Self::Shared(_) => 0,
            Self::Packed(packed) => packed.skipped,
        }
    }

    /// The memory of the page, in bytes. Shared users are not included, because the store holds them anyway.
    pub fn memory(&self) -> usize {
        match self {
            Self::Shared(users) => users.capacity() * size_of::<Arc<User>>(),
            Self::Packed(Packed { users, texts, .. }) => {
                users.capacity() * size_of::<User<usize>>() + texts.capacity()
            }
        }
    }

    /// The user at a position, counted from 0.
    pub fn get(&self, position: usize) -> Option<User<&str>> {
        match self {
            Self::Shared(users) => users.get(position).map(|user| user.borrowed()),
            Self::Packed(packed) => packed.get(position),
        }
    }

    /// The users.
    pub fn iter(&self) -> impl Iterator<Item = User<&str>> {
        (0..self.len()).map_while(|position| self.get(position))
    }

    /// The id of the last user.
    pub fn last(&self) -> Option<UserId> {
        self.get(self.len().checked_sub(1)?).map(|user| user.id)
    }
}

impl From<Packed> for Page {
    fn from(packed: Packed) -> Self {
        Self::Packed(packed)
    }
}

/// Leaves out the users, whose texts are personal data.
impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("users", &self.len()).finish_non_exhaustive()
    }
}

/// Any number of users in two allocations.
///
/// Owned texts would be thousands of allocations, made by the thread that reads and freed by the thread that
/// sends.
pub struct Packed {
    /// Each text is replaced with the position of its end in `texts`.
    users: Vec<User<usize>>,
    texts: String,
    /// The number of users at which the page is full.
    capacity: usize,
    skipped: u64,
}

impl Packed {
    /// An empty page for this number of users, but at most [`PAGE_LEN`].
    pub fn with_room_for(users: usize) -> Self {
        let capacity = users.min(PAGE_LEN);
        let texts = String::with_capacity(TYPICAL_TEXTS * capacity);
        Self { users: Vec::with_capacity(capacity), texts, capacity, skipped: 0 }
    }

    /// Adds a user. Its id must be above all others.
    pub fn push(&mut self, user: User<&str>) {
        let User { id, name, email, created_at, status } = user;
        let mut end = |text| {
            self.texts.push_str(text);
            self.texts.len()
        };
        let (name, email) = (end(name), end(email));
        self.users.push(User { id, name, email, created_at, status });
    }

    /// The number of users.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether it has no users.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Leaves out a user that cannot be read, and logs the error, which names the user.
    pub fn skip(&mut self, error: &StoreError) {
        self.skipped += 1;
        let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
        skipped.log(
            |times| tracing::error!(%error, times, "a damaged user was left out of GetAllUsers"),
        );
    }

    /// Whether the number of users has reached the capacity, or another long user may not fit.
    pub fn is_full(&self) -> bool {
        self.users.len() >= self.capacity || self.texts.len() + LONGEST > PAGE_TEXTS
    }

    fn get(&self, position: usize) -> Option<User<&str>> {
        let &User { id, name, email, created_at, status } = self.users.get(position)?;
        let before = position.checked_sub(1).map_or(0, |before| self.users[before].email);
        let (name, email) = (&self.texts[before..name], &self.texts[name..email]);
        Some(User { id, name, email, created_at, status })
    }
}

/// Leaves out the users, whose texts are personal data.
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
    fn page_returns_its_users() {
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
    fn page_is_full_of_many_or_long_users() {
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
    fn page_debug_output_has_no_personal_data() {
        let mut packed = Packed::with_room_for(1);
        packed.push(user("Alice", "a@b.co"));
        assert_eq!(format!("{packed:?}"), "Packed { users: 1, .. }");
        assert_eq!(format!("{:?}", Page::from(packed)), "Page { users: 1, .. }");
    }
}

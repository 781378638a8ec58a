//! Users on their way out of a store.

use std::fmt;

use crate::users::domain::{User, UserId};

/// How many users a [`Page`] has at most.
///
/// To read them is what holds up others who wait for the same thread or connection: half a
/// millisecond with SQLite.
pub const PAGE_LEN: usize = 1024;

/// From how many bytes of texts on a page takes no more: several times what a page of typical users
/// has, so that this bounds only what unusual ones may take.
const PAGE_TEXTS: usize = 128 * 1024;

/// Some users, in order of their ids.
///
/// They are in two pieces of memory, however many they are: users with texts of their own would be
/// some thousand, most of them given back by another thread than has asked for them.
#[derive(Default)]
pub struct Page {
    /// In the place of each text, where it ends.
    users: Vec<User<usize>>,
    texts: String,
}

impl Page {
    /// A page without users.
    pub fn new() -> Self {
        Self::default()
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

    /// Whether whoever fills it had better begin another one.
    pub fn is_full(&self) -> bool {
        self.users.len() >= PAGE_LEN || self.texts.len() >= PAGE_TEXTS
    }

    /// Whether it has no users.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// How many users it has.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// The id of its last user.
    pub fn last(&self) -> Option<UserId> {
        self.users.last().map(|user| user.id)
    }

    /// The user at a position, from 0 on.
    pub fn get(&self, position: usize) -> Option<User<&str>> {
        let &User { id, name, email, created_at, status } = self.users.get(position)?;
        let before = position.checked_sub(1).map_or(0, |before| self.users[before].email);
        let (name, email) = (&self.texts[before..name], &self.texts[name..email]);
        Some(User { id, name, email, created_at, status })
    }

    /// Its users.
    pub fn iter(&self) -> impl Iterator<Item = User<&str>> {
        (0..self.len()).map_while(|position| self.get(position))
    }
}

/// Without the users, whose texts are personal data.
impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("users", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::users::domain::{MAX_EMAIL_BYTES, MAX_NAME_CHARS, Timestamp, UserStatus};
    use uuid::Uuid;

    fn user<'a>(name: &'a str, email: &'a str) -> User<&'a str> {
        let (id, created_at) = (Uuid::now_v7().into(), Timestamp::now());
        User { id, name, email, created_at, status: UserStatus::Suspended }
    }

    #[test]
    fn users_come_out_of_a_page_as_they_went_in() {
        let users = [user("Alice", "a@b.co"), user("", ""), user("Юля", "юля@пример.рф")];
        let mut page = Page::new();
        assert!(page.is_empty() && page.last().is_none());
        users.iter().for_each(|user| page.push(*user));
        assert!(page.iter().eq(users));
        assert_eq!((page.len(), page.is_empty(), page.last()), (3, false, Some(users[2].id)));
    }

    #[test]
    fn a_page_is_full_of_many_users_or_of_long_ones() {
        let long = ("😀".repeat(MAX_NAME_CHARS), "e".repeat(MAX_EMAIL_BYTES));
        let long = user(&long.0, &long.1);
        let many = PAGE_TEXTS.div_ceil(long.name.len() + long.email.len());
        for (user, most) in [(user("Alice", "alice@example.com"), PAGE_LEN), (long, many)] {
            let mut page = Page::new();
            while !page.is_full() {
                page.push(user);
            }
            assert_eq!(page.len(), most);
        }
    }

    #[test]
    fn debug_output_holds_no_personal_data() {
        let mut page = Page::new();
        page.push(user("Alice", "a@b.co"));
        assert_eq!(format!("{page:?}"), "Page { users: 1, .. }");
    }
}

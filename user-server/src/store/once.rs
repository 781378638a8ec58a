//! Creations that are asked for again.

use std::fmt;

use ring::digest::{Context, SHA256};

use super::StoreError;
use crate::domain::{NewUser, Timestamp, User, UserId};

/// How long a key is remembered, in seconds: a day, after which no client still tries.
const REMEMBERED: i64 = 24 * 60 * 60;

/// Names a creation, so that asking for it again is not another one. Keys of different principals
/// have nothing to do with each other.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// Whose key it is; empty for everybody who has not said who they are.
    pub principal: String,
    /// The key itself, which the principal has chosen.
    pub key: String,
}

/// Keys may be guessed from one another.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyKey").finish_non_exhaustive()
    }
}

/// What a store remembers of a creation: enough to answer it again. The name and the address are those
/// that are asked for again, or else it is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Creation {
    pub(super) fingerprint: [u8; 32],
    pub(super) id: UserId,
    pub(super) created_at: Timestamp,
}

impl Creation {
    pub(super) fn of(user: &User) -> Self {
        let fingerprint = fingerprint(&user.name, &user.email);
        Self { fingerprint, id: user.id, created_at: user.created_at }
    }

    /// The answer of then; `None` if it was another user that was to be created.
    pub(super) fn answer(&self, again: NewUser) -> Option<User> {
        (self.fingerprint == fingerprint(again.name(), again.email()))
            .then(|| again.into_user(self.id, self.created_at))
    }
}

/// How far a stream of users has come: how many, and a digest of all of them in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(super) users: usize,
    pub(super) digest: [u8; 32],
}

impl Mark {
    /// Of a stream that begins.
    pub const START: Self = Self { users: 0, digest: [0; 32] };

    /// Behind one more user.
    #[must_use]
    pub fn then(self, user: &NewUser) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.digest);
        digest.update(&fingerprint(user.name(), user.email()));
        Self { users: self.users + 1, digest: finish(digest) }
    }

    /// How many users come before it.
    pub fn users(&self) -> usize {
        self.users
    }
}

/// Where the users of a creation stand in a stream that has a key.
#[derive(Clone, Debug)]
pub struct Part {
    /// Of the whole stream.
    pub key: IdempotencyKey,
    /// Where the part begins: all before it is stored.
    pub from: Mark,
    /// Where it ends.
    pub to: Mark,
    /// Whether the stream ends there.
    pub ends: bool,
}

impl Part {
    /// Whether the part is the next of a stream of which so much is stored.
    pub(super) fn follows(&self, stored: Option<&Progress>) -> bool {
        match stored {
            Some(stored) => stored.mark == self.from && !stored.ended,
            None => self.from == Mark::START,
        }
    }

    /// What is stored of the stream, with this part.
    pub(super) fn progress(&self) -> Progress {
        Progress { mark: self.to, ended: self.ends }
    }
}

/// What a store remembers of a stream with a key, besides the ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) mark: Mark,
    /// Whether there is no more of it.
    pub(super) ended: bool,
}

/// What is stored of a stream with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Of its users, in order.
    pub ids: Vec<UserId>,
    /// How far it has come.
    pub mark: Mark,
    /// Whether there is no more of it.
    pub ended: bool,
}

impl Known {
    pub(super) fn new(ids: Vec<UserId>, stored: Option<&Progress>) -> Self {
        let (mark, ended) = stored.map_or((Mark::START, false), |it| (it.mark, it.ended));
        Self { ids, mark, ended }
    }
}

/// What has become of users that were to be created in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// They are stored, under these ids.
    Now(Vec<UserId>),
    /// Nothing was stored, as the part is not the next of its stream.
    Before(Known),
}

/// What was created with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remembered {
    One(Creation),
    Stream(Progress),
}

impl Remembered {
    /// The stream; an error if the key is that of a single user.
    pub(super) fn stream(&self) -> Result<&Progress, StoreError> {
        match self {
            Self::Stream(progress) => Ok(progress),
            Self::One(_) => Err(StoreError::key_reused()),
        }
    }

    /// The answer to a creation of one user, if the key is that of the same one.
    pub(super) fn answer(&self, again: NewUser) -> Result<User, StoreError> {
        match self {
            Self::One(creation) => creation.answer(again).ok_or_else(StoreError::key_reused),
            Self::Stream(_) => Err(StoreError::key_reused()),
        }
    }
}

/// Keys of this second (since 1970) and of those before it are forgotten.
pub(super) fn forgotten(now: Timestamp) -> i64 {
    now.seconds() - REMEMBERED
}

/// Tells one user's values from those of all others, and says nothing of them.
fn fingerprint(name: &str, email: &str) -> [u8; 32] {
    let mut digest = Context::new(&SHA256);
    digest.update(&(name.len() as u64).to_be_bytes());
    digest.update(name.as_bytes());
    digest.update(email.as_bytes());
    finish(digest)
}

fn finish(digest: Context) -> [u8; 32] {
    digest.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_depends_on_all_users_and_their_order() {
        let [a, b] = ["a", "b"].map(|name| NewUser::parse(name, "b@c.de").unwrap());
        let marks = [
            Mark::START,
            Mark::START.then(&a),
            Mark::START.then(&a).then(&b),
            Mark::START.then(&b).then(&a),
            Mark::START.then(&a).then(&a),
        ];
        for (n, mark) in marks.iter().enumerate() {
            assert!(!marks[..n].contains(mark));
        }
        assert_eq!(marks[2], marks[1].then(&b));
        assert_eq!(marks.map(|mark| mark.users()), [0, 1, 2, 2, 2]);
    }

    #[test]
    fn another_name_or_address_is_another_user() {
        let of = |name, email| fingerprint(name, email);
        assert_eq!(of("a", "b@c.de"), of("a", "b@c.de"));
        for (name, email) in [("b", "b@c.de"), ("a", "c@c.de"), ("ab", "@c.de")] {
            assert_ne!(of("a", "b@c.de"), of(name, email));
        }
    }
}

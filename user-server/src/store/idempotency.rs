//! Idempotency keys: the parts of a creation that a store remembers, so that the creation can be repeated.

use std::fmt;

use ring::digest::{Context, SHA256};

use super::StoreError;
use crate::domain::{NewUser, Timestamp, User, UserId};

/// How long a key is remembered, in seconds: a day. No client retries for longer.
const REMEMBERED: i64 = 24 * 60 * 60;

/// Identifies a creation, so that repeating it does not create another user. Equal keys of different principals
/// are different keys.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// The owner of the key; empty for unauthenticated callers.
    pub principal: String,
    /// The key that the principal has chosen.
    pub key: String,
}

/// Leaves out the key: other keys could be guessed from it.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyKey").finish_non_exhaustive()
    }
}

/// A remembered creation of one user: enough to repeat its answer. A repetition has the same name and address,
/// so the store keeps only their fingerprint.
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

    /// The first answer; `None` if `again` is another user.
    pub(super) fn answer(&self, again: NewUser) -> Option<User> {
        if self.fingerprint != fingerprint(again.name(), again.email()) {
            return None;
        }
        Some(again.into_user(self.id, self.created_at))
    }
}

/// A position in a stream of users: the number of users, and a digest of all of them in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(super) users: usize,
    pub(super) digest: [u8; 32],
}

impl Mark {
    /// The start of a stream.
    pub const START: Self = Self { users: 0, digest: [0; 32] };

    /// The position after one more user.
    #[must_use]
    pub fn then(self, user: &NewUser) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.digest);
        digest.update(&fingerprint(user.name(), user.email()));
        Self { users: self.users + 1, digest: finish(digest) }
    }

    /// The number of users before the position.
    pub fn users(&self) -> usize {
        self.users
    }
}

/// A part of a stream with a key.
#[derive(Clone, Debug)]
pub struct Part {
    /// The key of the stream.
    pub key: IdempotencyKey,
    /// The start of the part: all users before it are stored.
    pub from: Mark,
    /// The end of the part.
    pub to: Mark,
    /// Whether the stream ends with this part.
    pub ends: bool,
}

impl Part {
    /// Whether the part directly follows the stored users of its stream.
    pub(super) fn follows(&self, stored: Option<&Progress>) -> bool {
        match stored {
            Some(stored) => stored.mark == self.from && !stored.ended,
            None => self.from == Mark::START,
        }
    }

    /// The progress of the stream after this part.
    pub(super) fn progress(&self) -> Progress {
        Progress { mark: self.to, ended: self.ends }
    }
}

/// The remembered progress of a stream with a key, without the ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) mark: Mark,
    /// Whether the stream is complete.
    pub(super) ended: bool,
}

/// The stored users of a stream with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The ids of its users, in order.
    pub ids: Vec<UserId>,
    /// The position after them.
    pub mark: Mark,
    /// Whether the stream is complete.
    pub ended: bool,
}

impl Known {
    pub(super) fn new(ids: Vec<UserId>, stored: Option<&Progress>) -> Self {
        let (mark, ended) = stored.map_or((Mark::START, false), |it| (it.mark, it.ended));
        Self { ids, mark, ended }
    }
}

/// The result of creating users in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// They are stored with these ids.
    Now(Vec<UserId>),
    /// Nothing was stored, because the part is not the next of its stream.
    Before(Known),
}

/// A remembered creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remembered {
    One(Creation),
    Stream(Progress),
}

impl Remembered {
    /// The progress of the stream. It is an error if the key belongs to a single user.
    pub(super) fn stream(&self) -> Result<&Progress, StoreError> {
        match self {
            Self::Stream(progress) => Ok(progress),
            Self::One(_) => Err(StoreError::key_reused()),
        }
    }

    /// The answer to a repeated creation of one user. It is an error if the key belongs to another creation.
    pub(super) fn answer(&self, again: NewUser) -> Result<User, StoreError> {
        match self {
            Self::One(creation) => creation.answer(again).ok_or_else(StoreError::key_reused),
            Self::Stream(_) => Err(StoreError::key_reused()),
        }
    }
}

/// Keys of this second (since 1970), and older keys, are forgotten.
pub(super) fn forgotten(now: Timestamp) -> i64 {
    now.seconds() - REMEMBERED
}

/// A digest that identifies the values of a user without revealing them.
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
    fn mark_depends_on_all_users_in_order() {
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
    fn fingerprint_differs_by_name_and_address() {
        let of = |name, email| fingerprint(name, email);
        assert_eq!(of("a", "b@c.de"), of("a", "b@c.de"));
        for (name, email) in [("b", "b@c.de"), ("a", "c@c.de"), ("ab", "@c.de")] {
            assert_ne!(of("a", "b@c.de"), of(name, email));
        }
    }
}

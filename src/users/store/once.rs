//! Creations that are asked for again.

use std::fmt;

use ring::digest::{Context, SHA256};

use crate::users::domain::{NewUser, Timestamp, User, UserId};

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
    digest.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_or_address_is_another_user() {
        let of = |name, email| fingerprint(name, email);
        assert_eq!(of("a", "b@c.de"), of("a", "b@c.de"));
        for (name, email) in [("b", "b@c.de"), ("a", "c@c.de"), ("ab", "@c.de")] {
            assert_ne!(of("a", "b@c.de"), of(name, email));
        }
    }
}

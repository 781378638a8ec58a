//! A `CreateUsers` stream with an idempotency key, and how it continues an earlier attempt.

use crate::domain::NewUser;
use crate::store::{IdempotencyKey, Known, Mark, Part, StoreError};

/// A stream with an idempotency key. An earlier attempt may have stored some of its users.
///
/// ```text
///   users:  0 ─────────── stored ─────────── read ─────────── ahead.mark
///             known to be equal     pending      stored by the earlier attempt: skipped, compared at the end
/// ```
pub(super) struct Keyed {
    key: IdempotencyKey,
    /// Up to here, the users of this stream are equal to the stored ones.
    stored: Mark,
    /// After the last user that was read.
    read: Mark,
    /// The end of the earlier attempt, if it is ahead of this one.
    ahead: Option<Ahead>,
    /// Whether the stream is complete, so that no user may follow.
    ended: bool,
}

struct Ahead {
    mark: Mark,
    ended: bool,
}

impl Keyed {
    pub(super) fn new(key: IdempotencyKey) -> Self {
        Self { key, stored: Mark::START, read: Mark::START, ahead: None, ended: false }
    }

    /// Reads the next user, and returns whether it must be stored.
    ///
    /// # Errors
    /// The key belongs to another stream.
    pub(super) fn take(&mut self, user: &NewUser) -> Result<bool, StoreError> {
        if self.ended {
            return Err(StoreError::key_reused());
        }
        self.read = self.read.then(user);
        let Some(Ahead { mark, ended }) = self.ahead else { return Ok(true) };
        if self.read.users() == mark.users() {
            self.reach(self.read, mark, ended)?;
        }
        Ok(false)
    }

    /// The part to store, with the users that are `pending`; `None` if there is nothing to store. `ends` is
    /// whether the client has half-closed.
    ///
    /// # Errors
    /// The key belongs to a longer stream.
    pub(super) fn part(&self, pending: &[NewUser], ends: bool) -> Result<Option<Part>, StoreError> {
        if self.ahead.is_some() && ends {
            return Err(StoreError::key_reused());
        }
        // A stream without users is not remembered.
        let has_changed = !pending.is_empty() || ends && self.read.users() > 0;
        if !has_changed || self.ahead.is_some() || self.ended {
            return Ok(None);
        }
        Ok(Some(Part { key: self.key.clone(), from: self.stored, to: self.read, ends }))
    }

    /// Notes that the part is stored.
    pub(super) fn store(&mut self, part: &Part) {
        self.stored = part.to;
        self.ended = part.ends;
    }

    /// Compares with the earlier attempt, and returns how many of the `pending` users it has stored.
    ///
    /// # Errors
    /// The key belongs to another stream.
    pub(super) fn compare(
        &mut self,
        known: &Known,
        pending: &[NewUser],
    ) -> Result<usize, StoreError> {
        let &Known { mark, ended, .. } = known;
        // It is less only if the key has expired meanwhile.
        let more = mark.users().checked_sub(self.stored.users());
        let more = more.ok_or_else(StoreError::key_reused)?;
        if more > pending.len() {
            self.ahead = Some(Ahead { mark, ended });
            return Ok(pending.len());
        }
        let mut reached = self.stored;
        for user in &pending[..more] {
            reached = reached.then(user);
        }
        self.reach(reached, mark, ended)?;
        if ended && more < pending.len() {
            return Err(StoreError::key_reused());
        }
        Ok(more)
    }

    /// This stream has reached the end of the earlier attempt. Its users must be the same.
    fn reach(&mut self, reached: Mark, mark: Mark, ended: bool) -> Result<(), StoreError> {
        if reached != mark {
            return Err(StoreError::key_reused());
        }
        self.stored = mark;
        self.ended = ended;
        self.ahead = None;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn user(n: usize) -> NewUser {
        NewUser::parse(&format!("user {n}"), "a@b.co").unwrap()
    }

    fn keyed() -> Keyed {
        Keyed::new(IdempotencyKey { principal: String::new(), key: "k".to_owned() })
    }

    /// The earlier attempt, with this number of users.
    fn known(users: usize, ended: bool) -> Known {
        let mark = (0..users).fold(Mark::START, |mark, n| mark.then(&user(n)));
        Known { ids: vec![Uuid::nil().into(); users], mark, ended }
    }

    /// The number of users, of those read, that are not stored yet.
    fn left(read: usize, known: Known) -> Result<usize, StoreError> {
        let mut keyed = keyed();
        let pending: Vec<_> = (0..read).map(user).collect();
        for user in &pending {
            assert!(keyed.take(user)?);
        }
        Ok(pending.len() - keyed.compare(&known, &pending)?)
    }

    #[test]
    fn keyed_stream_continues_an_earlier_attempt() {
        for (read, stored, expected) in [(5, 0, 5), (5, 3, 2), (5, 5, 0), (5, 8, 0)] {
            assert_eq!(left(read, known(stored, false)).unwrap(), expected);
        }
        let mut keyed = keyed();
        assert!(keyed.take(&user(0)).unwrap());
        assert_eq!(keyed.compare(&known(3, false), &[user(0)]).unwrap(), 1);
        assert!(keyed.part(&[], false).unwrap().is_none());
        let new = [1, 2, 3].map(|n| keyed.take(&user(n)).unwrap());
        assert_eq!(new, [false, false, true]);
        let part = keyed.part(&[user(3)], true).unwrap().unwrap();
        assert_eq!((part.from, part.to), (known(3, false).mark, known(4, false).mark));
    }

    #[test]
    fn keyed_stream_with_other_users_is_refused() {
        // One user more than the earlier one had.
        assert!(left(4, known(3, true)).unwrap_err().is_key_reused());
        // One user less.
        let mut keyed = keyed();
        keyed.take(&user(0)).unwrap();
        keyed.compare(&known(2, true), &[user(0)]).unwrap();
        assert!(keyed.part(&[], true).unwrap_err().is_key_reused());
        // Another user among the stored ones.
        assert!(keyed.take(&user(7)).unwrap_err().is_key_reused());
        let mut other = known(3, false);
        other.mark = Mark::START.then(&user(1)).then(&user(0)).then(&user(2));
        assert!(left(4, other).unwrap_err().is_key_reused());
    }

    #[test]
    fn keyed_stream_that_is_complete_stores_nothing() {
        let mut keyed = keyed();
        keyed.take(&user(0)).unwrap();
        keyed.compare(&known(1, true), &[user(0)]).unwrap();
        assert!(keyed.part(&[], true).unwrap().is_none());
        assert!(keyed.take(&user(1)).unwrap_err().is_key_reused());
    }
}

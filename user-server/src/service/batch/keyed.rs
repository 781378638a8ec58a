use crate::domain::NewUser;
use crate::store::{IdempotencyKey, Known, Mark, Part, StoreError};

/// A stream with an idempotency key, of which some may be stored already.
///
/// ```text
///   users:  0 ─────────── stored ─────────── read ─────────── ahead.mark
///             are the same        pending       of a stream of before: skipped, and compared there
/// ```
pub(super) struct Keyed {
    key: IdempotencyKey,
    /// Up to here the users of this stream are known to be those that are stored.
    stored: Mark,
    /// Behind the last user that was read.
    read: Mark,
    /// How far an earlier stream has come, if that is further than this one.
    ahead: Option<Ahead>,
    /// Whether all users of the stream are stored, and no others may follow.
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

    /// Whether this user, the next one, is still to be stored.
    ///
    /// # Errors
    /// The key is that of another stream.
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

    /// What is to be stored now that this is `pending`; `None` if nothing is. `ends` is whether the
    /// client has half-closed.
    ///
    /// # Errors
    /// The key is that of a longer stream.
    pub(super) fn part(&self, pending: &[NewUser], ends: bool) -> Result<Option<Part>, StoreError> {
        if self.ahead.is_some() && ends {
            return Err(StoreError::key_reused());
        }
        // Of a stream without users nothing is remembered.
        let is_news = !pending.is_empty() || ends && self.read.users() > 0;
        let wanted = is_news && self.ahead.is_none() && !self.ended;
        let part = || Part { key: self.key.clone(), from: self.stored, to: self.read, ends };
        Ok(wanted.then(part))
    }

    /// The part is stored.
    pub(super) fn store(&mut self, part: &Part) {
        (self.stored, self.ended) = (part.to, part.ends);
    }

    /// How many of the `pending` users are stored already.
    ///
    /// # Errors
    /// The key is that of another stream.
    pub(super) fn learn(
        &mut self,
        known: &Known,
        pending: &[NewUser],
    ) -> Result<usize, StoreError> {
        let &Known { mark, ended, .. } = known;
        // It is less only if the key was forgotten meanwhile.
        let more = mark.users().checked_sub(self.stored.users());
        let more = more.ok_or_else(StoreError::key_reused)?;
        if more > pending.len() {
            self.ahead = Some(Ahead { mark, ended });
            return Ok(pending.len());
        }
        let reached = pending[..more].iter().fold(self.stored, Mark::then);
        self.reach(reached, mark, ended)?;
        if ended && more < pending.len() {
            return Err(StoreError::key_reused());
        }
        Ok(more)
    }

    /// This stream has come as far as the earlier one.
    fn reach(&mut self, reached: Mark, mark: Mark, ended: bool) -> Result<(), StoreError> {
        if reached != mark {
            return Err(StoreError::key_reused());
        }
        (self.stored, self.ended, self.ahead) = (mark, ended, None);
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

    /// Of an earlier stream of so many users.
    fn known(users: usize, ended: bool) -> Known {
        let mark = (0..users).fold(Mark::START, |mark, n| mark.then(&user(n)));
        Known { ids: vec![Uuid::nil().into(); users], mark, ended }
    }

    /// How many users of a stream, read up to here, are still to be stored.
    fn left(read: usize, known: Known) -> Result<usize, StoreError> {
        let mut keyed = keyed();
        let pending: Vec<_> = (0..read).map(user).collect();
        for user in &pending {
            assert!(keyed.take(user)?);
        }
        Ok(pending.len() - keyed.learn(&known, &pending)?)
    }

    #[test]
    fn a_stream_goes_on_where_the_earlier_one_has_broken_off() {
        for (read, stored, expected) in [(5, 0, 5), (5, 3, 2), (5, 5, 0), (5, 8, 0)] {
            assert_eq!(left(read, known(stored, false)).unwrap(), expected);
        }
        let mut keyed = keyed();
        assert!(keyed.take(&user(0)).unwrap());
        assert_eq!(keyed.learn(&known(3, false), &[user(0)]).unwrap(), 1);
        assert!(keyed.part(&[], false).unwrap().is_none());
        let new = [1, 2, 3].map(|n| keyed.take(&user(n)).unwrap());
        assert_eq!(new, [false, false, true]);
        let part = keyed.part(&[user(3)], true).unwrap().unwrap();
        assert_eq!((part.from, part.to), (known(3, false).mark, known(4, false).mark));
    }

    #[test]
    fn another_stream_with_the_same_key_is_refused() {
        // One user more than the earlier one had.
        assert!(left(4, known(3, true)).unwrap_err().is_key_reused());
        // One less.
        let mut keyed = keyed();
        keyed.take(&user(0)).unwrap();
        keyed.learn(&known(2, true), &[user(0)]).unwrap();
        assert!(keyed.part(&[], true).unwrap_err().is_key_reused());
        // Another one, among those that were stored.
        assert!(keyed.take(&user(7)).unwrap_err().is_key_reused());
        let mut other = known(3, false);
        other.mark = Mark::START.then(&user(1)).then(&user(0)).then(&user(2));
        assert!(left(4, other).unwrap_err().is_key_reused());
    }

    #[test]
    fn after_its_end_there_is_nothing_left_to_store() {
        let mut keyed = keyed();
        keyed.take(&user(0)).unwrap();
        keyed.learn(&known(1, true), &[user(0)]).unwrap();
        assert!(keyed.part(&[], true).unwrap().is_none());
        assert!(keyed.take(&user(1)).unwrap_err().is_key_reused());
    }
}

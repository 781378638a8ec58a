//! Idempotency keys in memory.

use std::collections::{HashMap, VecDeque};

use crate::domain::{Timestamp, UserId};
use crate::store::{IdempotencyKey, Remembered};

/// How many expired keys a new key removes. With two, expired keys go faster than new ones come. More
/// would make a single call wait while thousands of keys of the same second are removed.
const FORGOTTEN_AT_ONCE: usize = 2;

/// The creations of each key, and the order in which they expire.
#[derive(Default)]
pub(super) struct Keys {
    kept: HashMap<IdempotencyKey, Kept>,
    /// Each key with the second from which its age counted when it was added. A key that was used again after
    /// it had expired is in the queue twice.
    by_age: VecDeque<(i64, IdempotencyKey)>,
    /// Keys of this second, and older ones, have expired.
    forgotten: i64,
}

/// The creation of a key.
pub(super) struct Kept {
    pub(super) what: Remembered,
    /// The ids of the users of a stream.
    pub(super) ids: Vec<UserId>,
    at: Timestamp,
}

impl Kept {
    fn is_valid(&self, forgotten: i64) -> bool {
        self.at.seconds() > forgotten
    }
}

impl Keys {
    /// Remembers a creation. The key of a stream may have one: then `ids` are added to its users.
    pub(super) fn keep(
        &mut self,
        key: IdempotencyKey,
        what: Remembered,
        ids: &[UserId],
        at: Timestamp,
    ) {
        let forgotten = self.forgotten;
        if let Some(kept) = self.kept.get_mut(&key).filter(|kept| kept.is_valid(forgotten)) {
            kept.what = what;
            kept.at = at;
            kept.ids.extend_from_slice(ids);
            return;
        }
        self.by_age.push_back((at.seconds(), key.clone()));
        self.kept.insert(key, Kept { what, ids: ids.to_vec(), at });
    }

    pub(super) fn recall(&self, key: &IdempotencyKey) -> Option<&Kept> {
        self.kept.get(key).filter(|kept| kept.is_valid(self.forgotten))
    }

    /// Expires the keys of this second and of earlier ones. A few are removed now, the others with the next
    /// keys. If the clock steps back, some keys live longer.
    pub(super) fn forget(&mut self, second: i64) {
        self.forgotten = second;
        for _ in 0..FORGOTTEN_AT_ONCE {
            if self.by_age.front().is_none_or(|(since, _)| *since > second) {
                return;
            }
            let Some((_, key)) = self.by_age.pop_front() else { return };
            match self.recall(&key).map(|kept| kept.at.seconds()) {
                // The stream has continued since, or the key was used again.
                Some(since) => self.by_age.push_back((since, key)),
                None => {
                    self.kept.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::{Mark, Progress};

    fn key(n: usize) -> IdempotencyKey {
        IdempotencyKey { principal: String::new(), key: n.to_string() }
    }

    fn keep(keys: &mut Keys, n: usize, second: i64) {
        let at = Timestamp::new(second, 0).unwrap();
        let progress = Progress { mark: Mark::START, ended: true };
        keys.keep(key(n), Remembered::Stream(progress), &[Uuid::max().into()], at);
    }

    #[test]
    fn idempotency_keys_are_forgotten_a_few_at_a_time() {
        const MANY: usize = 1000;
        let mut keys = Keys::default();
        (0..MANY).for_each(|n| keep(&mut keys, n, 1));
        for forgotten in 1..=MANY / FORGOTTEN_AT_ONCE {
            keys.forget(1);
            assert_eq!(keys.kept.len(), MANY - forgotten * FORGOTTEN_AT_ONCE);
            // Keys that are not removed yet have expired too.
            assert!(keys.recall(&key(MANY - 1)).is_none());
        }
        assert!(keys.by_age.is_empty());
    }

    #[test]
    fn idempotency_key_can_be_used_again_after_expiry() {
        let mut keys = Keys::default();
        keep(&mut keys, 0, 1);
        // Expired, but not removed yet.
        keys.forgotten = 1;
        keep(&mut keys, 0, 2);
        keep(&mut keys, 1, 3);
        keys.forget(1);
        assert_eq!(keys.recall(&key(0)).unwrap().ids.len(), 1);
        (0..2).for_each(|_| keys.forget(3));
        assert!(keys.kept.is_empty() && keys.by_age.is_empty());
    }

    #[test]
    fn idempotency_key_ages_from_the_last_part() {
        let mut keys = Keys::default();
        keep(&mut keys, 0, 1);
        keep(&mut keys, 0, 5);
        keys.forget(4);
        assert_eq!(keys.recall(&key(0)).unwrap().ids.len(), 2);
        keys.forget(5);
        assert!(keys.kept.is_empty() && keys.by_age.is_empty());
    }
}

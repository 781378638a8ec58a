//! The sequence of user ids.

use uuid::Uuid;

use crate::domain::{Timestamp, UserId};

/// The largest counter, which has 42 bits.
const MAX_COUNTER: u64 = (1 << 42) - 1;

/// The bits of the counter after the variant; 12 are before it.
const LOW_BITS: u32 = 30;

/// Issues strictly increasing ids, also within a millisecond and when the clock steps back.
///
/// A store has one sequence. It issues an id and stores its user in one step, so that no user appears after a
/// newer one.
///
/// ```text
///      48 bits      4       12        2      30       32       RFC 9562 section 5.7
///  | milliseconds | 7 |  counter  | 0b10 | counter | random |  and section 6.2, method 1
/// ```
#[derive(Debug, Default)]
pub struct IdSequence {
    /// The Unix time of the latest id, in milliseconds.
    millis: u64,
    /// The counter of the latest id. It starts at random, and increases within a millisecond.
    counter: u64,
}

impl IdSequence {
    /// A sequence for a store without users.
    pub fn new() -> Self {
        Self::default()
    }

    /// A sequence for a store with users: all ids are greater than `newest`, even if the clock has stepped back
    /// since. A sequence must have issued `newest`.
    pub fn resume(newest: UserId) -> Self {
        let mut sequence = Self::new();
        if let Some((seconds, nanos)) = Uuid::from(newest).get_timestamp().map(|t| t.to_unix()) {
            // The counter of the millisecond of `newest` is not known, so the next millisecond is used.
            let millis = seconds.saturating_mul(1000).saturating_add(u64::from(nanos / 1_000_000));
            sequence.start(millis.saturating_add(1));
        }
        sequence
    }

    /// The next id. Its time is `now`, or the latest earlier `now` if that is greater. An id cannot have a time
    /// before 1970, so such times count as 1970.
    pub fn next(&mut self, now: Timestamp) -> UserId {
        let seconds = u64::try_from(now.seconds()).unwrap_or(0);
        let nanos = u64::try_from(now.nanos()).unwrap_or(0);
        let now = seconds * 1000 + nanos / 1_000_000;
        if now > self.millis {
            self.start(now);
        } else if self.counter < MAX_COUNTER {
            self.counter += 1;
        } else {
            self.start(self.millis.saturating_add(1));
        }
        let (high, low) = (self.counter >> LOW_BITS, self.counter & ((1 << LOW_BITS) - 1));
        let first = self.millis << 16 | 7 << 12 | high;
        let second = 0b10 << 62 | low << 32 | u64::from(rand::random::<u32>());
        Uuid::from_u64_pair(first, second).into()
    }

    /// Starts a millisecond. The highest bit of the counter is zero, so that it cannot soon overflow.
    fn start(&mut self, millis: u64) {
        self.millis = millis;
        self.counter = rand::random::<u64>() & (MAX_COUNTER >> 1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ids_increase_when_the_clock_steps_back() {
        let noon = Timestamp::new(1_700_000_000, 0).unwrap();
        let morning = Timestamp::new(1_699_990_000, 0).unwrap();
        let mut sequence = IdSequence::new();
        let clock = [noon, noon, morning, Timestamp::MIN, morning, noon, Timestamp::MAX, noon];
        let ids = clock.map(|now| sequence.next(now));
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }

    #[test]
    fn ids_increase_when_the_counter_overflows() {
        let now = Timestamp::new(1_700_000_000, 0).unwrap();
        let mut sequence = IdSequence { millis: 1_700_000_000_000, counter: MAX_COUNTER - 1 };
        let ids = [0, 1, 2].map(|_| sequence.next(now));
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        let millis = ids.map(|id| Uuid::from(id).as_u64_pair().0 >> 16);
        assert_eq!(millis, [1_700_000_000_000, 1_700_000_000_001, 1_700_000_000_001]);
    }

    #[test]
    fn ids_are_random_uuids_of_version_7() {
        let now = Timestamp::new(1_700_000_000, 0).unwrap();
        let [one, other] = [0, 1].map(|_| Uuid::from(IdSequence::new().next(now)));
        for id in [one, other] {
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        }
        let ((first, second), (other_first, other_second)) =
            (one.as_u64_pair(), other.as_u64_pair());
        assert_eq!(first >> 12, other_first >> 12);
        // The counters, and the bits after them.
        assert_ne!((first, second >> 32), (other_first, other_second >> 32));
        assert_ne!(second as u32, other_second as u32);
    }

    #[test]
    fn id_has_its_time_of_creation() {
        let now = Timestamp::new(1_700_000_000, 123_456_789).unwrap();
        let uuid = Uuid::from(IdSequence::new().next(now));
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_timestamp().unwrap().to_unix(), (1_700_000_000, 123_000_000));
    }

    #[test]
    fn ids_resume_above_the_newest() {
        let now = Timestamp::new(1_700_000_000, 999_999_999).unwrap();
        let hour_ago = Timestamp::new(1_699_996_400, 0).unwrap();
        // Counters start at random, so continuing in the same millisecond would fail half the time.
        for _ in 0..64 {
            let newest = IdSequence::new().next(now);
            for clock in [now, hour_ago] {
                assert!(IdSequence::resume(newest).next(clock) > newest);
            }
        }
    }
}

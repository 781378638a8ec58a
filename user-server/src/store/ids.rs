//! The sequence of user ids.

use uuid::{ClockSequence, ContextV7, Uuid};

use crate::domain::{Timestamp, UserId};

/// Issues strictly increasing ids, also within a millisecond and when the clock steps back.
///
/// A store has one sequence. It issues an id and stores its user in one step, so that no user appears after a
/// newer one.
#[derive(Debug, Default)]
pub struct IdSequence {
    /// It keeps the latest time, and counts within its millisecond.
    context: ContextV7,
}

impl IdSequence {
    /// A sequence for a store without users.
    pub fn new() -> Self {
        Self::default()
    }

    /// A sequence for a store with users: all ids are greater than `newest`, even if the clock has stepped back
    /// since. A sequence must have issued `newest`.
    pub fn resume(newest: UserId) -> Self {
        let sequence = Self::new();
        if let Some((seconds, nanos)) = Uuid::from(newest).get_timestamp().map(|t| t.to_unix()) {
            // The counter of the millisecond of `newest` is not known, so the next millisecond is used.
            let nanos = u64::from(nanos) + 1_000_000;
            let (seconds, nanos) = (seconds + nanos / 1_000_000_000, nanos % 1_000_000_000);
            sequence.context.generate_timestamp_sequence(seconds, nanos as u32);
        }
        sequence
    }

    /// The next id. Its time is `now`, or the latest earlier `now` if that is greater. An id cannot have a time
    /// before 1970, so such times count as 1970.
    pub fn next(&mut self, now: Timestamp) -> UserId {
        let seconds = u64::try_from(now.seconds()).unwrap_or(0);
        let nanos = u32::try_from(now.nanos()).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix(&self.context, seconds, nanos)).into()
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

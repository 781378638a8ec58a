//! The ids of users.

use uuid::{ClockSequence, ContextV7, Uuid};

use crate::domain::{Timestamp, UserId};

/// Issues ids that strictly increase, also within a millisecond and when the clock steps back.
///
/// A store keeps one, and issues an id and stores its user as one step, so that no user appears
/// behind a newer one.
#[derive(Debug, Default)]
pub struct IdSequence {
    /// Never goes back: it keeps the greatest time that it has seen, and counts within it.
    context: ContextV7,
}

impl IdSequence {
    /// A sequence for a store without users.
    pub fn new() -> Self {
        Self::default()
    }

    /// A sequence whose ids are all greater than `newest` (one that a sequence has issued), for a
    /// store that has users from before it was opened: the clock may have been stepped back since.
    pub fn resume(newest: UserId) -> Self {
        let sequence = Self::new();
        if let Some((seconds, nanos)) = Uuid::from(newest).get_timestamp().map(|t| t.to_unix()) {
            // The millisecond of `newest` has a counter that is not known any more, the next is free.
            let nanos = u64::from(nanos) + 1_000_000;
            let (seconds, nanos) = (seconds + nanos / 1_000_000_000, nanos % 1_000_000_000);
            sequence.context.generate_timestamp_sequence(seconds, nanos as u32);
        }
        sequence
    }

    /// The next id. It carries `now`, or the latest time given so far if that is later; times
    /// before 1970, which no id can carry, count as 1970.
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
    fn ids_increase_when_the_clock_stands_or_steps_back() {
        let noon = Timestamp::new(1_700_000_000, 0).unwrap();
        let morning = Timestamp::new(1_699_990_000, 0).unwrap();
        let mut sequence = IdSequence::new();
        let clock = [noon, noon, morning, Timestamp::MIN, morning, noon, Timestamp::MAX, noon];
        let ids = clock.map(|now| sequence.next(now));
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }

    #[test]
    fn an_id_carries_its_time_of_creation() {
        let now = Timestamp::new(1_700_000_000, 123_456_789).unwrap();
        let uuid = Uuid::from(IdSequence::new().next(now));
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_timestamp().unwrap().to_unix(), (1_700_000_000, 123_000_000));
    }

    #[test]
    fn a_resumed_sequence_continues_above_the_newest_id() {
        let now = Timestamp::new(1_700_000_000, 999_999_999).unwrap();
        let hour_ago = Timestamp::new(1_699_996_400, 0).unwrap();
        // Counters start at random: going on within the same millisecond would fail half the time.
        for _ in 0..64 {
            let newest = IdSequence::new().next(now);
            for clock in [now, hour_ago] {
                assert!(IdSequence::resume(newest).next(clock) > newest);
            }
        }
    }
}

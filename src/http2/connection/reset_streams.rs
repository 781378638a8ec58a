use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Streams that are remembered after the server has reset them, and for how long. The time covers
/// the frames that are in flight.
const CAPACITY: usize = 2000;
const TIME: Duration = Duration::from_secs(5);

/// The streams that the server has reset and on which the client may still send. RFC 9113 (5.1)
/// requires that these frames are ignored.
#[derive(Debug, Default)]
pub(super) struct ResetStreams {
    /// In the order of their resets.
    streams: VecDeque<(u32, Instant)>,
    ids: BTreeSet<u32>,
    /// The largest stream ID that was forgotten. Frames on older streams may still be in flight.
    forgotten: u32,
}

impl ResetStreams {
    pub(super) fn add(&mut self, stream: u32, now: Instant) {
        self.expire(now);
        if self.streams.len() >= CAPACITY {
            self.forget_first();
        }
        self.streams.push_back((stream, now));
        self.ids.insert(stream);
    }

    /// Forgets streams that were reset long ago.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((_, since)) = self.streams.front()
            && now.duration_since(*since) > TIME
        {
            self.forget_first();
        }
        if self.streams.is_empty() && self.streams.capacity() > 0 {
            self.streams = VecDeque::new();
        }
    }

    /// Whether the server has reset the stream, or may have.
    pub(super) fn may_contain(&self, stream: u32) -> bool {
        stream <= self.forgotten || self.ids.contains(&stream)
    }

    fn forget_first(&mut self) {
        if let Some((stream, _)) = self.streams.pop_front() {
            self.ids.remove(&stream);
            self.forgotten = self.forgotten.max(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_streams_are_bounded_by_count_and_time() {
        let mut resets = ResetStreams::default();
        let now = Instant::now();
        resets.add(3, now);
        assert!(!resets.may_contain(1) && resets.may_contain(3));
        for id in 0..CAPACITY as u32 {
            resets.add(5 + 2 * id, now);
        }
        assert_eq!(resets.streams.len(), CAPACITY);
        assert!(resets.may_contain(1), "an older stream may have been reset");
        resets.expire(now + 2 * TIME);
        assert_eq!(resets.streams.capacity(), 0);
        assert!(resets.may_contain(5) && !resets.may_contain(5 + 2 * CAPACITY as u32));
    }
}

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::window::{Rate, Taken, Window};

/// The slots of a set: one cache line of tags.
const WAYS: usize = 8;

/// Slots for each client. With two, one client in a hundred finds its set full when the table holds as
/// many clients as it has room for.
const SPARE: usize = 2;

/// Each shard has a lock. With so many, workers seldom contend for one.
const SHARDS: usize = 64;

/// The windows of clients, in a table of fixed size.
///
/// A keyed hash that clients cannot predict identifies a client and selects its set of [`WAYS`] slots.
/// If the set is full, a new client takes the slot whose window ends first. Most often that window is
/// over; otherwise its client starts again from zero. The memory is allocated as zeros, which the
/// system provides when they are used.
pub(crate) struct Local {
    origin: Instant,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

/// The hash of a client in this table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known(u64);

struct Shard {
    /// The hash of the client; 0 is a free slot.
    tags: Vec<u64>,
    over: Vec<u64>,
    /// Previous and current.
    counts: Vec<[u32; 2]>,
}

impl Local {
    /// With room for at least so many clients.
    pub(crate) fn with_room_for(clients: usize) -> Self {
        let slots = clients.saturating_mul(SPARE).div_ceil(SHARDS).next_multiple_of(WAYS);
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new(slots)));
        Self { origin: Instant::now(), hasher: RandomState::new(), shards: shards.collect() }
    }

    /// Counts a call, or returns the time that the client has to wait for the next.
    pub(crate) fn take(&self, client: impl Hash, rate: Rate) -> Taken {
        self.take_of(self.known(client), rate)
    }

    /// Hashes a client.
    pub(crate) fn known(&self, client: impl Hash) -> Known {
        Known(self.hasher.hash_one(client))
    }

    /// The same as [`take`](Self::take).
    pub(crate) fn take_of(&self, Known(hash): Known, rate: Rate) -> Taken {
        self.shard(hash).take(hash, rate, self.now())
    }

    /// The result of [`take`](Self::take), without counting the call.
    pub(crate) fn peek(&self, client: impl Hash, rate: Rate) -> Taken {
        let hash = self.hasher.hash_one(client);
        let mut window = self.shard(hash).find(hash).map_or(Window::default(), |(_, it)| it);
        window.take(rate, self.now())
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        self.shards[hash as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Shard {
    fn new(slots: usize) -> Self {
        Self { tags: vec![0; slots], over: vec![0; slots], counts: vec![[0; 2]; slots] }
    }

    fn take(&mut self, hash: u64, rate: Rate, now: u64) -> Taken {
        let (slot, mut window) = self.find(hash).unwrap_or_else(|| {
            let set = self.set(hash);
            let first = set.start;
            let slot = set.min_by_key(|slot| self.over[*slot]).unwrap_or(first);
            self.tags[slot] = tag(hash);
            (slot, Window::default())
        });
        let taken = window.take(rate, now);
        self.over[slot] = window.over;
        self.counts[slot] = [window.previous, window.current];
        taken
    }

    fn find(&self, hash: u64) -> Option<(usize, Window)> {
        let slot = self.set(hash).find(|slot| self.tags[*slot] == tag(hash))?;
        let [previous, current] = self.counts[slot];
        Some((slot, Window { over: self.over[slot], previous, current }))
    }

    /// The slots of a client's set.
    fn set(&self, hash: u64) -> Range<usize> {
        let sets = self.tags.len() / WAYS;
        let first = hash as usize / SHARDS % sets * WAYS;
        first..first + WAYS
    }
}

fn tag(hash: u64) -> u64 {
    hash.max(1)
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: Rate = Rate { calls: 3, period: Duration::from_secs(60) };

    /// The bytes of the table.
    fn size(table: &Local) -> usize {
        let size = |shard: &Mutex<Shard>| {
            let Shard { tags, over, counts } = &*shard.lock().unwrap();
            (tags.capacity() + over.capacity() + counts.capacity()) * size_of::<u64>()
        };
        table.shards.iter().map(size).sum()
    }

    #[test]
    fn rate_table_memory_is_fixed() {
        let table = Local::with_room_for(250_000);
        let before = size(&table);
        assert!(before <= 12 << 20, "{before}");
        for client in 0..1_000_000 {
            assert!(table.take(client, RATE).is_ok());
        }
        assert_eq!(size(&table), before);
    }

    #[test]
    fn rate_table_keeps_most_clients_when_full() {
        let table = Local::with_room_for(100_000);
        for client in 0..100_000 {
            assert!(table.take(client, RATE).is_ok());
        }
        let known = |shard: &Mutex<Shard>| {
            shard.lock().unwrap().tags.iter().filter(|tag| **tag != 0).count()
        };
        let known: usize = table.shards.iter().map(known).sum();
        assert!((98_500..100_000).contains(&known), "{known}");
    }

    #[tokio::test(start_paused = true)]
    async fn rate_table_drops_idle_clients_first() {
        let table = Local::with_room_for(1);
        let slots = SHARDS * WAYS;
        for client in 0..slots / 4 {
            assert!(table.take(("gone", client), RATE).is_ok());
        }
        tokio::time::advance(2 * RATE.period).await;
        for client in 0..slots / 4 {
            assert!((0..3).all(|_| table.take(("there", client), RATE).is_ok()));
        }
        let refused = (0..slots / 4).filter(|client| table.take(("there", *client), RATE).is_err());
        // A set may be full of them by chance.
        assert!(refused.count() > slots / 4 * 9 / 10);
    }

    #[test]
    fn rate_table_peek_counts_nothing() {
        let table = Local::with_room_for(1000);
        assert!((0..10).all(|_| table.peek("client", RATE).is_ok()));
        assert!((0..3).all(|_| table.take("client", RATE).is_ok()));
        assert!(table.peek("client", RATE).is_err() && table.peek("other", RATE).is_ok());
    }

    #[test]
    fn rate_table_counts_clients_apart() {
        let table = Local::with_room_for(1000);
        for client in 0..100 {
            assert_eq!((0..10).filter(|_| table.take(client, RATE).is_ok()).count(), 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rate_table_full_of_idle_clients_counts_new_ones() {
        let table = Local::with_room_for(1);
        let slots = SHARDS * WAYS;
        for client in 0..slots * 8 {
            assert!(table.take(("gone", client), RATE).is_ok());
        }
        tokio::time::advance(2 * RATE.period).await;
        for client in 0..slots / 4 {
            assert!((0..3).all(|_| table.take(("there", client), RATE).is_ok()));
        }
        let refused = (0..slots / 4).filter(|client| table.peek(("there", *client), RATE).is_err());
        // A set may be full of them by chance.
        assert!(refused.count() > slots / 4 * 9 / 10);
    }

    #[test]
    fn rate_table_debug_omits_the_clients() {
        let table = Local::with_room_for(1000);
        assert_eq!(format!("{table:?}"), "Local { .. }");
    }
}

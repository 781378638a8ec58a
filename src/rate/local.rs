use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::window::{Rate, Taken, Window};

/// Where a client may be found: one cache line of tags.
const WAYS: usize = 8;

/// Places for each client that there is to be room for: with twice as many, of a full house one in
/// a hundred finds its set full.
const SPARE: usize = 2;

/// Parts with a lock each, of which workers seldom want the same at the same moment.
const SHARDS: usize = 64;

/// The windows of clients, in a table whose size is fixed when it is made.
///
/// A client is known by a hash that nobody can foresee, and has a place in one set of [`WAYS`]. If
/// that is full, a new one takes the place that would be free first: mostly one in which nothing
/// counts any more, else that client's count begins anew. The memory is taken as zeros, which the
/// system provides as they are used.
pub(crate) struct Local {
    origin: Instant,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

/// A client, as a table knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known(u64);

struct Shard {
    /// The hash of whose window it is; 0 is nobody's.
    tags: Vec<u64>,
    over: Vec<u64>,
    /// Previous and current.
    counts: Vec<[u32; 2]>,
}

impl Local {
    /// With room for at least so many clients.
    pub(crate) fn with_room_for(clients: usize) -> Self {
        let places = clients.saturating_mul(SPARE).div_ceil(SHARDS).next_multiple_of(WAYS);
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new(places)));
        Self { origin: Instant::now(), hasher: RandomState::new(), shards: shards.collect() }
    }

    /// Counts a call, or says how long the client has to wait for the next.
    pub(crate) fn take(&self, client: impl Hash, rate: Rate) -> Taken {
        self.take_of(self.known(client), rate)
    }

    /// What a client is known by here.
    pub(crate) fn known(&self, client: impl Hash) -> Known {
        Known(self.hasher.hash_one(client))
    }

    /// The same as [`take`](Self::take).
    pub(crate) fn take_of(&self, Known(hash): Known, rate: Rate) -> Taken {
        self.shard(hash).take(hash, rate, self.now())
    }

    /// What [`take`](Self::take) would give, without counting anything.
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
    fn new(places: usize) -> Self {
        Self { tags: vec![0; places], over: vec![0; places], counts: vec![[0; 2]; places] }
    }

    fn take(&mut self, hash: u64, rate: Rate, now: u64) -> Taken {
        let (place, mut window) = self.find(hash).unwrap_or_else(|| {
            let set = self.set(hash);
            let first = set.start;
            let place = set.min_by_key(|place| self.over[*place]).unwrap_or(first);
            self.tags[place] = tag(hash);
            (place, Window::default())
        });
        let taken = window.take(rate, now);
        self.over[place] = window.over;
        self.counts[place] = [window.previous, window.current];
        taken
    }

    fn find(&self, hash: u64) -> Option<(usize, Window)> {
        let place = self.set(hash).find(|place| self.tags[*place] == tag(hash))?;
        let [previous, current] = self.counts[place];
        Some((place, Window { over: self.over[place], previous, current }))
    }

    /// The places where a client may be.
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
    fn a_million_clients_take_no_more_memory_than_one() {
        let table = Local::with_room_for(250_000);
        let before = size(&table);
        assert!(before <= 12 << 20, "{before}");
        for client in 0..1_000_000 {
            assert!(table.take(client, RATE).is_ok());
        }
        assert_eq!(size(&table), before);
    }

    #[test]
    fn of_as_many_clients_as_there_is_room_for_hardly_any_is_forgotten() {
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
    async fn whoever_has_gone_makes_room_before_those_who_are_there() {
        let table = Local::with_room_for(1);
        let places = SHARDS * WAYS;
        for client in 0..places / 4 {
            assert!(table.take(("gone", client), RATE).is_ok());
        }
        tokio::time::advance(2 * RATE.period).await;
        for client in 0..places / 4 {
            assert!((0..3).all(|_| table.take(("there", client), RATE).is_ok()));
        }
        let refused =
            (0..places / 4).filter(|client| table.take(("there", *client), RATE).is_err());
        // A set may be full of them by chance.
        assert!(refused.count() > places / 4 * 9 / 10);
    }

    #[test]
    fn a_look_counts_nothing() {
        let table = Local::with_room_for(1000);
        assert!((0..10).all(|_| table.peek("client", RATE).is_ok()));
        assert!((0..3).all(|_| table.take("client", RATE).is_ok()));
        assert!(table.peek("client", RATE).is_err() && table.peek("other", RATE).is_ok());
    }

    #[test]
    fn clients_do_not_share_a_count() {
        let table = Local::with_room_for(1000);
        for client in 0..100 {
            assert_eq!((0..10).filter(|_| table.take(client, RATE).is_ok()).count(), 3);
        }
    }
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::grpc::method::Method;
use crate::grpc::server::scheduling::slow_polls::SlowPolls;

/// Connections count their bytes in one of this many places, so that workers seldom share a cache
/// line for it.
const LANES: usize = 16;

/// What a server has served so far and what it has open, from [`Server::stats`]. It costs nothing
/// per call: connections count as they open and close, bytes with each read and write of a socket.
///
/// [`Server::stats`]: crate::Server::stats
#[derive(Debug, Default)]
pub struct ServerStats {
    accepted: AtomicU64,
    closed: AtomicU64,
    refused: AtomicU64,
    next_lane: AtomicUsize,
    lanes: [Lane; LANES],
    slow_polls: SlowPolls,
}

/// As wide as the pairs of cache lines that processors fetch together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    received: AtomicU64,
    sent: AtomicU64,
}

impl ServerStats {
    /// Connections that were accepted since the start, those that failed in their handshakes among
    /// them.
    pub fn connections_accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that are open, those in their handshakes among them.
    pub fn connections_open(&self) -> u64 {
        // In this order it can be too high for a moment, but never below zero.
        let closed = self.closed.load(Ordering::Acquire);
        self.accepted.load(Ordering::Relaxed).saturating_sub(closed)
    }

    /// Connections that were closed at once, since there were
    /// [`max_connections`](crate::Server::max_connections).
    pub fn connections_refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Bytes of HTTP/2 that were read, before TLS added to them.
    pub fn bytes_received(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.received.load(Ordering::Relaxed)).sum()
    }

    /// Bytes of HTTP/2 that were written, before TLS added to them.
    pub fn bytes_sent(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.sent.load(Ordering::Relaxed)).sum()
    }

    /// How often calls have held up others: the methods of which polls of a handler, with the
    /// interceptors around it, took more than a millisecond, and how
    /// many, in no particular order. Methods that have many should be set to [`spawn`](crate::CallOptions::spawn), or do in
    /// smaller steps what they do; when slow polls add up to a hundredth of the time, the log says
    /// so too. A few are no fault of theirs: the thread may have had to wait for a CPU.
    pub fn slow_polls(&self) -> Vec<(&'static Method, u64)> {
        self.slow_polls.counts()
    }

    /// A connection was turned away.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was accepted; it is open until the meter is dropped.
    pub(super) fn open(self: &Arc<Self>) -> Arc<Meter> {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let lane = self.next_lane.fetch_add(1, Ordering::Relaxed) % LANES;
        Arc::new(Meter { stats: self.clone(), lane })
    }
}

/// Counts for one connection.
#[derive(Debug)]
pub(super) struct Meter {
    stats: Arc<ServerStats>,
    lane: usize,
}

impl Meter {
    pub(super) fn received(&self, bytes: usize) {
        self.stats.lanes[self.lane].received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn slow_poll(&self, method: &'static Method, time: Duration) {
        self.stats.slow_polls.add(method, time);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.stats.lanes[self.lane].sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stats.closed.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_count_a_connection_until_its_meter_drops() {
        let stats = Arc::new(ServerStats::default());
        let meters = [stats.open(), stats.open()];
        let clone = meters[0].clone();
        meters.iter().for_each(|meter| meter.received(3));
        clone.sent(5);
        assert_eq!((stats.connections_open(), stats.connections_accepted()), (2, 2));
        drop(meters);
        assert_eq!((stats.connections_open(), stats.connections_accepted()), (1, 2));
        drop(clone);
        assert_eq!((stats.connections_open(), stats.connections_accepted()), (0, 2));
        assert_eq!((stats.bytes_received(), stats.bytes_sent()), (6, 5));
    }
}

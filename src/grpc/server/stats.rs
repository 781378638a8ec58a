use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::grpc::method::Method;
use crate::grpc::server::scheduling::slow_polls::SlowPolls;

/// Connections count their bytes in this many lanes, so that workers rarely share a cache line.
const LANES: usize = 16;

/// Counters of a server, from [`Server::stats`]. They cost nothing per call: connections count when
/// they open and close, bytes with each read and write of a socket.
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

/// Aligned to 128 bytes, because processors fetch cache lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    received: AtomicU64,
    sent: AtomicU64,
}

impl ServerStats {
    /// Connections accepted since the start, including connections whose handshake failed.
    pub fn connections_accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Open connections, including connections in a handshake.
    pub fn connections_open(&self) -> u64 {
        // Read in this order, the result can be too high for a moment, but never below zero.
        let closed = self.closed.load(Ordering::Acquire);
        self.accepted.load(Ordering::Relaxed).saturating_sub(closed)
    }

    /// Connections that were closed at once because
    /// [`max_connections`](crate::Server::max_connections) was reached.
    pub fn connections_refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// HTTP/2 bytes that were read, without the overhead of TLS.
    pub fn bytes_received(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.received.load(Ordering::Relaxed)).sum()
    }

    /// HTTP/2 bytes that were written, without the overhead of TLS.
    pub fn bytes_sent(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.sent.load(Ordering::Relaxed)).sum()
    }

    /// Counts slow polls by method, in no particular order. A slow poll of a handler and its
    /// interceptors takes more than 1 ms and delays other calls.
    ///
    /// Methods with many slow polls should be [spawned](crate::CallOptions::spawn) or work in
    /// smaller steps. A warning is logged when slow polls take a hundredth of the time. A few slow
    /// polls are normal, because a thread may have to wait for a CPU.
    pub fn slow_polls(&self) -> Vec<(&'static Method, u64)> {
        self.slow_polls.counts()
    }

    /// Counts a connection that was closed because of the connection limit.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an accepted connection. It is open until the meter is dropped.
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

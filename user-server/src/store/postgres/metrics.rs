//! Metrics of the store.

use std::sync::Arc;

use prometheus::IntGauge;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::breaker::{Breaker, State};
use super::creation::Job;
use super::pool::Pool;
use super::write_queue::Queue;
use crate::store::metrics::{CommitMetrics, gauge};

/// Read at each scrape.
pub(super) struct StoreMetrics {
    pool: Pool,
    breaker: Arc<Breaker>,
    creations: Queue<Job>,
    queued: IntGauge,
    connections: IntGauge,
    in_use: IntGauge,
    waiting: IntGauge,
    open: IntGauge,
    read_only: IntGauge,
    /// All metrics above, and those of commits.
    all: Vec<Box<dyn Collector>>,
}

impl StoreMetrics {
    pub(super) fn new(
        pool: Pool,
        breaker: Arc<Breaker>,
        creations: Queue<Job>,
        commits: &CommitMetrics,
    ) -> Self {
        let mut all = commits.collectors();
        let mut gauge = |name, help| {
            let gauge = gauge(name, help);
            all.push(Box::new(gauge.clone()));
            gauge
        };
        let connections = gauge(
            "user_store_connections",
            "Maximum number of connections to the database, without those of the writer and the probe.",
        );
        let in_use = gauge(
            "user_store_connections_in_use",
            "Number of connections to the database that are in use or being made.",
        );
        let waiting = gauge(
            "user_store_connections_waiting",
            "Number of calls that wait for a connection to the database.",
        );
        let open = gauge(
            "user_store_breaker_open",
            "1 while the database is unavailable and calls fail immediately, otherwise 0.",
        );
        let read_only =
            gauge("user_store_read_only", "1 while the database is read-only, otherwise 0.");
        let queued = commits.queued.clone();
        Self {
            pool,
            breaker,
            creations,
            queued,
            connections,
            in_use,
            waiting,
            open,
            read_only,
            all,
        }
    }
}

impl Collector for StoreMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.all.iter().flat_map(|metric| metric.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let state = self.breaker.state();
        for (gauge, value) in [
            (&self.queued, self.creations.len()),
            (&self.connections, self.pool.size()),
            (&self.in_use, self.pool.in_use()),
            (&self.waiting, self.pool.waiting()),
            (&self.open, usize::from(state == State::Unavailable)),
            (&self.read_only, usize::from(state == State::ReadOnly)),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.all.iter().flat_map(|metric| metric.collect()).collect()
    }
}

//! What operators are told of the store.

use std::sync::Arc;

use prometheus::IntGauge;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::breaker::{Breaker, State};
use super::pool::Pool;
use super::turns::Queue;
use super::writer::Job;
use crate::store::metrics::{CommitMetrics, gauge};

/// Looked at when Prometheus asks.
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
    /// These, and those of commits.
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
            "Connections to the database at most, besides those of the writer and of the probe.",
        );
        let in_use = gauge(
            "user_store_connections_in_use",
            "Connections to the database that are being used or made.",
        );
        let waiting = gauge(
            "user_store_connections_waiting",
            "Calls that wait for a connection to the database.",
        );
        let open = gauge(
            "user_store_breaker_open",
            "1 while the database is away and calls fail at once, otherwise 0.",
        );
        let read_only =
            gauge("user_store_read_only", "1 while the database can only be read, otherwise 0.");
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
            (&self.queued, self.creations.waiting()),
            (&self.connections, self.pool.size()),
            (&self.in_use, self.pool.in_use()),
            (&self.waiting, self.pool.waiting()),
            (&self.open, usize::from(state == State::Away)),
            (&self.read_only, usize::from(state == State::ReadOnly)),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.all.iter().flat_map(|metric| metric.collect()).collect()
    }
}

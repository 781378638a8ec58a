//! What stores that commit tell operators, for Prometheus.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntGauge};

/// Commits of a store that gathers changes. Clones are the same metrics.
#[derive(Clone)]
pub(super) struct CommitMetrics {
    /// From its first statement until the changes are durable, also if it fails.
    pub(super) seconds: Histogram,
    pub(super) users: Histogram,
    pub(super) queued: IntGauge,
}

/// A call that waits to be committed, until this is dropped.
pub(super) struct Waiting(IntGauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl CommitMetrics {
    pub(super) fn waiting(&self) -> Waiting {
        self.queued.inc();
        Waiting(self.queued.clone())
    }

    pub(super) fn new() -> Self {
        // From an fsync of a fast disk to what health takes for a store that hangs.
        let seconds = vec![0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
        let users = vec![1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 10_000.0];
        Self {
            seconds: histogram("user_store_commit_seconds", "Time that commits take.", seconds),
            users: histogram(
                "user_store_commit_users",
                "Users that are created by a commit, of those that create any.",
                users,
            ),
            queued: gauge("user_store_queue", "Calls that wait to be committed."),
        }
    }

    pub(super) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.seconds.clone()),
            Box::new(self.users.clone()),
            Box::new(self.queued.clone()),
        ]
    }
}

fn histogram(name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets);
    Histogram::with_opts(options).expect("the name is a valid one")
}

pub(super) fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect("the name is a valid one")
}

//! Metrics of stores that commit changes, for Prometheus.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntGauge};

/// The commits of a store with group commit. Clones share the metrics.
#[derive(Clone)]
pub(super) struct CommitMetrics {
    /// The time from the first statement until the changes are durable. Failed commits are included.
    pub(super) seconds: Histogram,
    pub(super) users: Histogram,
    pub(super) queued: IntGauge,
}

/// Counts a queued call until this is dropped.
pub(super) struct Queued(IntGauge);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl CommitMetrics {
    pub(super) fn queued(&self) -> Queued {
        self.queued.inc();
        Queued(self.queued.clone())
    }

    pub(super) fn new() -> Self {
        // From an fsync of a fast disk to the time after which health considers a store stuck.
        let seconds = vec![0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
        let users = vec![1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 10_000.0];
        Self {
            seconds: histogram("user_store_commit_seconds", "Duration of commits.", seconds),
            users: histogram(
                "user_store_commit_users",
                "Number of users created by a commit, for commits that create users.",
                users,
            ),
            queued: gauge("user_store_queue", "Number of calls that wait for their commit."),
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
    Histogram::with_opts(options).expect("the name is valid")
}

pub(super) fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect("the name is valid")
}

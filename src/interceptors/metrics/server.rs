use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};

use super::families::{counter, descriptors, family, gauge};
use super::labels;
use crate::ServerStats;

const HELP: [(&str, &str); 6] = [
    ("grpc_server_connections", "Connections that are open."),
    ("grpc_server_connections_accepted_total", "Total number of connections accepted."),
    (
        "grpc_server_connections_refused_total",
        "Total number of connections refused at the connection limit.",
    ),
    ("grpc_server_received_bytes_total", "Total number of bytes read, without TLS."),
    ("grpc_server_sent_bytes_total", "Total number of bytes written, without TLS."),
    (
        "grpc_server_slow_polls_total",
        "Total number of polls of calls that were long enough to delay other calls.",
    ),
];

/// The connections and bytes of a server, for Prometheus:
///
/// - `grpc_server_connections`, `grpc_server_connections_accepted_total` and
///   `grpc_server_connections_refused_total`;
/// - `grpc_server_received_bytes_total` and `grpc_server_sent_bytes_total`;
/// - `grpc_server_slow_polls_total`, for each method that has any.
#[derive(Debug)]
pub struct ServerMetrics {
    stats: Arc<ServerStats>,
    descriptors: Vec<Desc>,
}

impl ServerMetrics {
    /// Metrics of a server's [`stats`](crate::Server::stats).
    pub fn new(stats: Arc<ServerStats>) -> Self {
        Self { stats, descriptors: descriptors(&HELP) }
    }
}

impl Collector for ServerMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptors.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stats = &self.stats;
        let open =
            family(HELP[0], MetricType::GAUGE, vec![gauge(&[], stats.connections_open() as f64)]);
        let totals = [
            stats.connections_accepted(),
            stats.connections_refused(),
            stats.bytes_received(),
            stats.bytes_sent(),
        ];
        let totals = HELP[1..5].iter().zip(totals).map(|(help, total)| {
            family(*help, MetricType::COUNTER, vec![counter(&[], total as f64)])
        });
        let slow_polls = stats.slow_polls();
        let slow_polls =
            slow_polls.iter().map(|(method, count)| counter(&labels(method), *count as f64));
        let slow_polls = family(HELP[5], MetricType::COUNTER, slow_polls.collect());
        std::iter::once(open).chain(totals).chain([slow_polls]).collect()
    }
}

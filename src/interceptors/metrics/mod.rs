mod families;
mod server;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, MetricFamily, MetricType};
use rustc_hash::FxHashMap;

use self::families::{counter, descriptors, family, gauge, histogram, label};
pub use self::server::ServerMetrics;
use self::table::Table;
use crate::{Call, Code, Interceptor, Method, Next, Outcome, Router, UNKNOWN_METHOD};

/// The buckets of go-grpc-prometheus, in seconds: Prometheus' own default.
const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The status codes, 0 to 16.
const CODES: usize = 17;

// The counters of a method, as columns of the table. All but the first count at the end of a call.
const STARTED: usize = 0;
const RECEIVED: usize = 1;
const SENT: usize = 2;
const NANOSECONDS: usize = 3;
const HANDLED: usize = 4;
const BUCKETS: usize = HANDLED + CODES;

const STARTED_TOTAL: &str = "grpc_server_started_total";
const HANDLED_TOTAL: &str = "grpc_server_handled_total";
const RECEIVED_TOTAL: &str = "grpc_server_msg_received_total";
const SENT_TOTAL: &str = "grpc_server_msg_sent_total";
const HANDLING_SECONDS: &str = "grpc_server_handling_seconds";
const IN_FLIGHT: &str = "grpc_server_calls_in_flight";

const HELP: [(&str, &str); 6] = [
    (STARTED_TOTAL, "Total number of RPCs started on the server."),
    (
        HANDLED_TOTAL,
        "Total number of RPCs completed on the server, regardless of success or failure.",
    ),
    (RECEIVED_TOTAL, "Total number of RPC messages received on the server, of completed calls."),
    (SENT_TOTAL, "Total number of RPC messages sent by the server, of completed calls."),
    (HANDLING_SECONDS, "Response latency (seconds) of RPCs that were handled by the server."),
    (IN_FLIGHT, "RPCs that were started on the server and are not completed."),
];

/// Counts and times calls for Prometheus. Names and labels are those of [go-grpc-prometheus], so that
/// its dashboards work:
///
/// - `grpc_server_started_total`, `grpc_server_handled_total` (with `grpc_code`);
/// - `grpc_server_msg_received_total`, `grpc_server_msg_sent_total`;
/// - `grpc_server_handling_seconds`;
/// - `grpc_server_calls_in_flight`, which is an addition.
///
/// Each has the labels `grpc_type`, `grpc_service` and `grpc_method`. Every method is present from the
/// start, with zero. Calls to unknown methods count for one method with the labels `unknown`, so that
/// clients cannot add series. Messages count at the end of their call, which is late for long streams.
///
/// Make it from a router that has all services, and register it twice. As an interceptor it comes
/// after the access log and before interceptors that refuse calls. In a registry of the `prometheus`
/// crate it is a collector, beside the metrics of the application.
///
/// ```
/// use balafon::interceptors::{Metrics, ServerMetrics};
/// use balafon::{Router, Server};
///
/// # fn serve(router: Router) -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::new();
/// let metrics = Metrics::new(&router);
/// let router = router.intercept(metrics.clone());
///
/// let registry = prometheus::Registry::new();
/// registry.register(Box::new(metrics))?;
/// registry.register(Box::new(ServerMetrics::new(server.stats())))?;
/// let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather())?;
/// # Ok(())
/// # }
/// ```
///
/// [go-grpc-prometheus]: https://github.com/grpc-ecosystem/go-grpc-middleware/tree/main/providers/prometheus
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    /// The row of a method is its index here. The first is the row of unknown methods.
    methods: Vec<&'static Method>,
    /// Rows by the addresses of methods, which are static. A call hashes no text.
    rows: FxHashMap<usize, usize>,
    buckets: Vec<f64>,
    descriptors: Vec<Desc>,
    table: Table,
}

impl Metrics {
    /// Metrics of all methods of the router. Methods of services that are added later count as unknown.
    pub fn new(router: &Router) -> Self {
        Self::with_buckets(router, &DEFAULT_BUCKETS)
    }

    /// The same with other bounds for the buckets of `grpc_server_handling_seconds`, in seconds. The
    /// least default bound of 5 ms is too long for methods that read from memory.
    ///
    /// # Panics
    /// If the bounds do not increase.
    pub fn with_buckets(router: &Router, bounds: &[f64]) -> Self {
        assert!(bounds.is_sorted_by(|a, b| a < b), "the bounds of buckets increase: {bounds:?}");
        let mut methods: Vec<_> = router.methods().collect();
        methods.sort_unstable_by_key(|method| method.path);
        methods.insert(0, &UNKNOWN_METHOD);
        let rows = methods.iter().enumerate().map(|(row, method)| (address(method), row)).collect();
        // One more bucket for values above the last bound.
        let table = Table::new(methods.len(), BUCKETS + bounds.len() + 1);
        let buckets = bounds.to_vec();
        let descriptors = descriptors(&HELP);
        Self { shared: Arc::new(Shared { methods, rows, buckets, descriptors, table }) }
    }
}

impl Interceptor for Metrics {
    async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
        let Shared { rows, buckets, table, .. } = &*self.shared;
        let row = rows.get(&address(call.method())).copied().unwrap_or_default();
        let row = table.row(row);
        let (start, counts) = (call.started(), call.handle());
        row.add(STARTED, 1);

        let outcome = next.run(call).await;

        let duration = start.elapsed();
        let seconds = duration.as_secs_f64();
        let bucket = buckets.iter().position(|bound| seconds <= *bound);
        row.add(RECEIVED, counts.received());
        row.add(SENT, counts.sent());
        row.add(NANOSECONDS, duration.as_nanos() as u64);
        row.add(BUCKETS + bucket.unwrap_or(buckets.len()), 1);
        row.add(HANDLED + outcome.status.code() as usize, 1);
        outcome
    }
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        self.shared.descriptors.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        use MetricType::{COUNTER, GAUGE, HISTOGRAM};
        let mut metrics = HELP.map(|_| Vec::new());
        let [started, handled, received, sent, seconds, in_flight] = &mut metrics;
        for (row, method) in self.shared.methods.iter().enumerate() {
            let counted = self.shared.table.sums(row);
            let labels = labels(method);
            let of_codes = &counted[HANDLED..BUCKETS];
            let over: u64 = of_codes.iter().sum();
            started.push(counter(&labels, counted[STARTED] as f64));
            received.push(counter(&labels, counted[RECEIVED] as f64));
            sent.push(counter(&labels, counted[SENT] as f64));
            in_flight.push(gauge(&labels, counted[STARTED].saturating_sub(over) as f64));
            let sum = Duration::from_nanos(counted[NANOSECONDS]).as_secs_f64();
            seconds.push(histogram(&labels, &self.shared.buckets, &counted[BUCKETS..], sum));
            for (code, count) in (0..).zip(of_codes) {
                let of_code = [&[label("grpc_code", code_name(code))], &labels[..]].concat();
                handled.push(counter(&of_code, *count as f64));
            }
        }
        let types = [COUNTER, COUNTER, COUNTER, COUNTER, HISTOGRAM, GAUGE];
        let families = HELP.into_iter().zip(types).zip(metrics);
        families.map(|((help, of_type), metrics)| family(help, of_type, metrics)).collect()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("methods", &self.shared.methods.len()).finish()
    }
}

fn address(method: &'static Method) -> usize {
    std::ptr::from_ref(method).addr()
}

/// Sorted by name, as in the libraries of Prometheus.
fn labels(method: &Method) -> [LabelPair; 3] {
    let of_type = match (method.client_streaming, method.server_streaming) {
        (false, false) => "unary",
        (true, false) => "client_stream",
        (false, true) => "server_stream",
        (true, true) => "bidi_stream",
    };
    [
        label("grpc_method", method.name),
        label("grpc_service", method.service),
        label("grpc_type", of_type),
    ]
}

/// The name in Go, which dashboards query: `NotFound`, `Canceled`.
fn code_name(code: i32) -> String {
    match Code::from_i32(code) {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Registry, TextEncoder};

    use super::*;
    use crate::testing::{self, intercept};
    use crate::{Response, Rpc, Service, Status};

    static SAY: Rpc<(), ()> = Rpc::unary("/a.Greeter/Say");
    static CHAT: Rpc<(), ()> = Rpc::bidi_streaming("/a.Greeter/Chat");

    fn metrics() -> Metrics {
        let service = Service::builder("a.Greeter", &[], ())
            .unary(&SAY, |_, _| async { Ok(Response::new(())) })
            .bidi_streaming(&CHAT, |_, _, _| async { Ok(()) })
            .build();
        Metrics::new(&Router::new().add(service))
    }

    fn scrape(metrics: &Metrics) -> String {
        let registry = Registry::new();
        registry.register(Box::new(metrics.clone())).unwrap();
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    /// The value of a series by the whole of its name and labels.
    fn value(text: &str, series: &str) -> f64 {
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let mut values = lines.filter(|(name, _)| *name == series).map(|(_, value)| value);
        let value = values.next().unwrap_or_else(|| panic!("no {series} in\n{text}"));
        assert!(values.next().is_none(), "{series} twice in\n{text}");
        value.parse().unwrap()
    }

    async fn call(metrics: &Metrics, method: &'static Method, status: Status) {
        intercept(metrics, testing::call(method), move |_| {
            std::future::ready(status.clone().into())
        })
        .await;
    }

    #[tokio::test]
    async fn metrics_count_calls_by_method_and_code() {
        let metrics = metrics();
        call(&metrics, &SAY, Status::ok()).await;
        call(&metrics, &SAY, Status::not_found("nobody")).await;
        call(&metrics, &SAY, Status::cancelled("gone")).await;
        let text = scrape(&metrics);
        let say = r#"grpc_method="Say",grpc_service="a.Greeter",grpc_type="unary""#;
        assert_eq!(value(&text, &format!("grpc_server_started_total{{{say}}}")), 3.0);
        for (code, count) in [("OK", 1.0), ("NotFound", 1.0), ("Canceled", 1.0), ("Internal", 0.0)]
        {
            let series = format!(r#"grpc_server_handled_total{{grpc_code="{code}",{say}}}"#);
            assert_eq!(value(&text, &series), count, "{code}");
        }
        assert_eq!(value(&text, &format!("grpc_server_calls_in_flight{{{say}}}")), 0.0);
        for (le, count) in [("0.005", 3.0), ("10", 3.0), ("+Inf", 3.0)] {
            let series = format!(r#"grpc_server_handling_seconds_bucket{{{say},le="{le}"}}"#);
            assert_eq!(value(&text, &series), count);
        }
        assert_eq!(value(&text, &format!("grpc_server_handling_seconds_count{{{say}}}")), 3.0);
        assert!(value(&text, &format!("grpc_server_handling_seconds_sum{{{say}}}")) > 0.0);
    }

    #[test]
    fn metrics_have_every_method_and_code_at_start() {
        let text = scrape(&metrics());
        let chat = r#"grpc_method="Chat",grpc_service="a.Greeter",grpc_type="bidi_stream""#;
        for name in ["started_total", "msg_received_total", "msg_sent_total", "calls_in_flight"] {
            assert_eq!(value(&text, &format!("grpc_server_{name}{{{chat}}}")), 0.0);
        }
        let handled = text
            .lines()
            .filter(|line| line.starts_with("grpc_server_handled_total") && line.contains(chat));
        assert_eq!(handled.count(), CODES);
    }

    #[test]
    fn metrics_describe_each_family_once() {
        let text = scrape(&metrics());
        for (name, _) in HELP {
            let described = format!("# TYPE {name} ");
            assert_eq!(text.matches(&described).count(), 1, "{described} in\n{text}");
            assert_eq!(text.matches(&format!("# HELP {name} ")).count(), 1);
        }
        assert!(!text.contains("_total_total"), "{text}");
    }

    #[tokio::test]
    async fn methods_that_it_was_not_told_of_are_one() {
        static OTHERS: [Rpc<(), ()>; 2] = [Rpc::unary("/b.B/One"), Rpc::unary("/b.B/Two")];
        let metrics = metrics();
        let before = scrape(&metrics).lines().count();
        for other in &OTHERS {
            call(&metrics, other, Status::ok()).await;
        }
        call(&metrics, &UNKNOWN_METHOD, Status::unimplemented("no")).await;
        let text = scrape(&metrics);
        assert_eq!(text.lines().count(), before);
        let unknown = r#"grpc_method="unknown",grpc_service="unknown",grpc_type="bidi_stream""#;
        assert_eq!(value(&text, &format!("grpc_server_started_total{{{unknown}}}")), 3.0);
    }

    #[tokio::test]
    async fn metrics_count_calls_in_flight() {
        let metrics = metrics();
        let seen = metrics.clone();
        let chat = r#"{grpc_method="Chat",grpc_service="a.Greeter",grpc_type="bidi_stream"}"#;
        let in_flight = format!("grpc_server_calls_in_flight{chat}");
        let expected = in_flight.clone();
        intercept(&metrics, testing::call(&CHAT), move |_| {
            assert_eq!(value(&scrape(&seen), &expected), 1.0);
            std::future::ready(Outcome::ok())
        })
        .await;
        assert_eq!(value(&scrape(&metrics), &in_flight), 0.0);
    }

    #[test]
    #[should_panic(expected = "increase")]
    fn metrics_refuse_unsorted_buckets() {
        Metrics::with_buckets(&Router::new(), &[0.1, 0.1]);
    }
}

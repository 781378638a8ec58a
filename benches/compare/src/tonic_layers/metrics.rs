//! Calls begun, ended and how long they took, for Prometheus. Handles are looked up once for each method, not for each
//! call. Messages are not counted, as they are by balafon: a layer sees none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use compare::tonic_pb::users::user_service_server::SERVICE_NAME;
use http::Request;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts};
use tonic::body::Body;
use tonic::{Code, Status};

use super::{Watch, Watcher, code};

const METHODS: [&str; 5] = ["CreateUser", "GetUser", "GetAllUsers", "CreateUsers", "UpdateUsers"];
const CODES: i32 = 17;
const LABELS: [&str; 2] = ["grpc_service", "grpc_method"];

#[derive(Clone)]
pub struct Metrics(Arc<HashMap<String, Arc<Method>>>);

struct Method {
    started: IntCounter,
    handled: Vec<IntCounter>,
    seconds: Histogram,
}

impl Metrics {
    /// # Panics
    /// If two methods have one name.
    pub fn new() -> Self {
        let started = counter("grpc_server_started_total", &LABELS);
        let handled = counter("grpc_server_handled_total", &[LABELS[0], LABELS[1], "grpc_code"]);
        let seconds = HistogramOpts::new("grpc_server_handling_seconds", "How long calls took.");
        let seconds = HistogramVec::new(seconds, &LABELS).expect("the labels are good");
        let method = |name| {
            let code = |code| {
                let code = format!("{:?}", Code::from_i32(code));
                handled.with_label_values(&[SERVICE_NAME, name, &code])
            };
            let method = Method {
                started: started.with_label_values(&[SERVICE_NAME, name]),
                handled: (0..CODES).map(code).collect(),
                seconds: seconds.with_label_values(&[SERVICE_NAME, name]),
            };
            (format!("/{SERVICE_NAME}/{name}"), Arc::new(method))
        };
        let methods = Arc::new(METHODS.into_iter().map(method).collect());
        for family in [&started, &handled] {
            prometheus::register(Box::new(family.clone())).expect("nobody has that name");
        }
        prometheus::register(Box::new(seconds)).expect("nobody has that name");
        Self(methods)
    }
}

fn counter(name: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, "Calls."), labels).expect("the labels are good")
}

/// A call of a known method.
pub struct Timed(Option<(Arc<Method>, Instant)>);

impl Watcher for Metrics {
    type Watch = Timed;

    fn begin(&self, request: &Request<Body>) -> Timed {
        let method = self.0.get(request.uri().path());
        Timed(method.map(|method| {
            method.started.inc();
            (method.clone(), Instant::now())
        }))
    }
}

impl Watch for Timed {
    fn end(&mut self, status: Option<Status>) {
        if let Some((method, start)) = &self.0 {
            method.handled[code(status.as_ref()) as usize].inc();
            method.seconds.observe(start.elapsed().as_secs_f64());
        }
    }
}

//! What stands between a request's head and its handler: the router, and the interceptors around
//! it. Neither can be reached without a connection, so each scenario is whole unary calls of empty
//! messages over one in memory, and says something in comparison with its neighbours.
//!
//! `cargo bench --bench chain -- interceptors` runs what has that in its name.

mod client;

use std::sync::Arc;

use balafon::grpc::frame;
use balafon::{Interceptor, Next, Outcome, Response, Router, Rpc, Server, Service};
use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::io::duplex;

use self::client::{Call, Client};

fn chain(criterion: &mut Criterion) {
    calls(criterion, router("methods/10").of_methods(10));
    calls(criterion, router("methods/1000").of_methods(1000));

    calls(criterion, router("interceptors/0"));
    calls(criterion, router("interceptors/1").behind_interceptors(1));
    calls(criterion, router("interceptors/5").behind_interceptors(5));
}

/// Calls that the client has open at once. So many that the writes and wake-ups, which they share,
/// do not count.
const CALLS: usize = 100;

/// Methods of one service, if there are so many.
const METHODS_PER_SERVICE: usize = 10;

/// More than these calls and their answers take, so that neither end ever waits for room.
const PIPE_SIZE: usize = 1 << 20;

/// One scenario.
#[derive(Clone, Copy)]
struct Opts {
    name: &'static str,
    methods: usize,
    interceptors: usize,
}

fn router(name: &'static str) -> Opts {
    Opts { name, methods: 1, interceptors: 0 }
}

impl Opts {
    /// All of them are called, in turns.
    fn of_methods(self, methods: usize) -> Self {
        Self { methods, ..self }
    }

    fn behind_interceptors(self, interceptors: usize) -> Self {
        Self { interceptors, ..self }
    }

    fn router(self, methods: &[&'static Rpc<(), ()>]) -> Router {
        let mut router = Router::new();
        for methods in methods.chunks(METHODS_PER_SERVICE) {
            let mut service = Service::builder(methods[0].service, &[], ());
            for method in methods {
                service = service.unary(method, |_, _| async { Ok(Response::new(())) });
            }
            router = router.add(service.build());
        }
        (0..self.interceptors).fold(router, |router, _| router.intercept(Pass))
    }

    /// Descriptions, which generated code has as statics.
    fn methods(self) -> Vec<&'static Rpc<(), ()>> {
        let path = |at: usize| {
            let service = at / METHODS_PER_SERVICE;
            format!("/balafon.bench.Service{service:03}/Method{at:04}").leak()
        };
        let method = |at| -> &'static Rpc<(), ()> { Box::leak(Box::new(Rpc::unary(path(at)))) };
        (0..self.methods).map(method).collect()
    }
}

/// The least that an interceptor can do.
struct Pass;

impl Interceptor for Pass {
    async fn intercept(&self, call: balafon::Call, next: Next<'_>) -> Outcome {
        next.run(call).await
    }
}

fn calls(criterion: &mut Criterion, opts: Opts) {
    let methods = opts.methods();
    let mut body = BytesMut::new();
    frame::encode(&mut body, &(), usize::MAX).expect("it is empty");
    let calls: Vec<_> = methods.iter().map(|method| Call::new(method.path, &body)).collect();
    let mut calls = calls.iter().cycle();

    let router = Arc::new(opts.router(&methods));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime can be made");
    let mut client = runtime.block_on(async {
        let (near, far) = duplex(PIPE_SIZE);
        tokio::spawn(async move { Server::new().serve_connection(far, router).await });
        // No method's path, so that none of them is in the dynamic table.
        Client::open(near, "/", None).await
    });
    let mut group = criterion.benchmark_group("chain");
    group.throughput(Throughput::Elements(CALLS as u64));
    group.bench_function(opts.name, |bencher| {
        bencher.iter(|| runtime.block_on(client.calls(calls.by_ref().take(CALLS))));
    });
}

criterion_group!(benches, chain);
criterion_main!(benches);

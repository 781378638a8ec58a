//! The texts of a call's headers, without a network: what a request's head costs to read, and a
//! timeout and a status's message alone.
//!
//! `cargo bench --bench heads -- timeout` runs what has that in its name.

use std::hint::black_box;

use balafon::grpc::head::RequestHead;
use balafon::grpc::status::{decode_message, encode_message};
use balafon::grpc::timeout;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{Method, Request};

fn heads(criterion: &mut Criterion) {
    parse(criterion, head("bare"));
    parse(criterion, head("grpc-go").with(&GRPC_GO));
    parse(criterion, head("timeout").with(&GRPC_GO).with(&[("grpc-timeout", "999m")]));
    parse(criterion, head("encoding").with(&GRPC_GO).with(&[("grpc-encoding", "gzip")]));
    parse(criterion, head("metadata").with(&GRPC_GO).with(&METADATA));
    parse(criterion, head("subtype").of_type("application/grpc+proto"));
    parse(criterion, head("not POST").of_verb(Method::GET));
    parse(criterion, head("not gRPC").of_type("application/json"));
    parse(criterion, head("unknown encoding").with(&[("grpc-encoding", "snappy")]));

    parse_timeout(criterion, "1S");
    parse_timeout(criterion, "99999999n");
    parse_timeout(criterion, "99999999H");
    parse_timeout(criterion, "soon");

    message(criterion, "plain", "User not found: 42");
    message(criterion, "plain 1KiB", &"x".repeat(1024));
    message(criterion, "one escape", "the disk is 100% full");
    message(criterion, "escapes 1KiB", &"é世".repeat(205));
    message(criterion, "cut", &"é".repeat(5000));
}

/// What grpc-go sends with every call besides what HTTP asks for.
const GRPC_GO: [(&str, &str); 3] =
    [("user-agent", "grpc-go/1.76.0"), ("te", "trailers"), ("grpc-accept-encoding", "gzip")];

/// What an application and those between add to that.
const METADATA: [(&str, &str); 8] = [
    ("authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.dGhpcyBpcyBub3Qgb25l"),
    ("x-request-id", "01a2035c-fbdf-74b5-ac2d-30dbfd63b6c3"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "congo=t61rcWkgMzE"),
    ("baggage", "user=alice,tenant=blue"),
    ("x-forwarded-for", "192.0.2.43, 198.51.100.17"),
    ("x-forwarded-proto", "https"),
    ("grpc-trace-bin", "AAAKLPqyIuFpTqA0vHhpQEuNAaxe0Qb8iKHgAQE"),
];

/// One scenario of a request's head: what it is called, and how it looks.
struct Opts {
    name: &'static str,
    verb: Method,
    content_type: &'static str,
    fields: Vec<(&'static str, &'static str)>,
}

fn head(name: &'static str) -> Opts {
    Opts { name, verb: Method::POST, content_type: "application/grpc", fields: Vec::new() }
}

impl Opts {
    fn with(mut self, fields: &[(&'static str, &'static str)]) -> Self {
        self.fields.extend_from_slice(fields);
        self
    }

    fn of_verb(self, verb: Method) -> Self {
        Self { verb, ..self }
    }

    fn of_type(self, content_type: &'static str) -> Self {
        Self { content_type, ..self }
    }
}

fn parse(criterion: &mut Criterion, opts: Opts) {
    let mut request = Request::builder()
        .method(opts.verb)
        .uri("http://localhost:50051/helloworld.Greeter/SayHello")
        .header("content-type", opts.content_type);
    for (name, value) in opts.fields {
        request = request.header(name, value);
    }
    let (parts, ()) = request.body(()).expect("the fields are well-formed").into_parts();
    criterion.bench_function(&format!("head/{}", opts.name), |bencher| {
        bencher.iter(|| RequestHead::parse(black_box(&parts)));
    });
}

fn parse_timeout(criterion: &mut Criterion, value: &str) {
    criterion.bench_function(&format!("timeout/{value}"), |bencher| {
        bencher.iter(|| timeout::parse(black_box(value.as_bytes())));
    });
}

/// Both ways: servers encode what clients decode.
fn message(criterion: &mut Criterion, name: &str, message: &str) {
    criterion.bench_function(&format!("message/encode/{name}"), |bencher| {
        bencher.iter(|| encode_message(black_box(message)));
    });
    let encoded = encode_message(message);
    criterion.bench_function(&format!("message/decode/{name}"), |bencher| {
        bencher.iter(|| decode_message(black_box(encoded.as_bytes())));
    });
}

criterion_group!(benches, heads);
criterion_main!(benches);

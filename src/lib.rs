//! gRPC written by hand on HTTP/2: a server library on the h2 crate.
//!
//! A service is a trait that `balafon-codegen` makes of a `.proto` file, with one plain `async fn`
//! for each RPC. A streaming handler is given a [`Sink`] and returns how the call ended; an
//! [`Interceptor`] is plain code around `next.run(call).await`. The book (`docs/`) has a service from
//! `.proto` to a client's call; here is one without code generation, to show what there is below:
//!
//! ```
//! use balafon::{Call, Interceptor, Next, Outcome, Request, Router, Rpc, Server, Service, Sink, Status};
//!
//! struct Clock;
//!
//! static COUNT_DOWN: Rpc<u32, u32> = Rpc::server_streaming("/clock.Clock/CountDown");
//!
//! impl Clock {
//!     async fn count_down(&self, request: Request<u32>, mut out: Sink<u32>) -> Result<(), Status> {
//!         if request.message > 1000 {
//!             return Err(Status::out_of_range("wanted at most 1000"));
//!         }
//!         for number in (1..=request.message).rev() {
//!             out.send(number).await?; // waits while the client's flow control says so
//!         }
//!         Ok(())
//!     }
//! }
//!
//! struct Log;
//!
//! impl Interceptor for Log {
//!     async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
//!         let path = call.path().to_owned();
//!         let outcome = next.run(call).await; // the true end of any kind of call
//!         println!("{path}: {}", outcome.status);
//!         outcome
//!     }
//! }
//!
//! let clock = Service::builder("clock.Clock", &[], Clock)
//!     .server_streaming(&COUNT_DOWN, |clock, request, out| async move {
//!         clock.count_down(request, out).await
//!     })
//!     .build();
//! let router = Router::new().intercept(Log).add(clock);
//! # if false {
//! Server::new().run("127.0.0.1:9090", router)?; // until SIGINT or SIGTERM
//! # }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Life of a call
//!
//! ```text
//! accept -> TLS, if it is set -> HTTP/2 handshake -> stream: HEADERS
//!   -> head          method, content-type, timeout, encoding  (a Rejection answers at once)
//!   -> Router        path -> Method and handler               (unknown: the fallback, UNIMPLEMENTED)
//!   -> interceptors  outermost first; each wraps the rest and sees the Outcome
//!   -> handler       decodes, calls the trait's method, encodes
//!   -> trailers      Outcome { status, trailers } -> HEADERS with END_STREAM
//! ```
//!
//! One call is one future. It ends in one place, with one status; deadline, reset, shutdown and
//! panic are other ways for that same future to end.
//!
//! # Modules
//!
//! - [`grpc`]: the protocol and its runtime. What is needed most is exported here, at the top.
//! - [`interceptors`] and [`services`]: ready-made, for any service.
//! - [`rpc`]: `google.rpc`, the error details.
//! - [`testing`]: calling handlers without a network.
//!
//! # Features
//!
//! - `gzip` (default), `deflate`, `zstd`: compression of messages.
//! - `tls`: `Server::tls`, by rustls with ring.
//! - `access-log`: `interceptors::AccessLog`.
//! - `auth`: `interceptors::auth`, JWT by jsonwebtoken with ring.
//! - `rate-limit`: `interceptors::rate_limit`; `redis`: the same for several instances together,
//!   with `tls`.
//! - `metrics`: `interceptors::Metrics`, for Prometheus.
//! - `otlp`: `interceptors::traces`, spans for a collector, with `tls`.

// Generated code names this crate as its users' code does.
extern crate self as balafon;

mod cut;
pub mod file_watch;
pub mod grpc;
#[cfg(feature = "https")]
mod http_client;
pub mod interceptors;
mod log_throttle;
mod rate;
pub mod services;
pub mod testing;
#[cfg(feature = "tls")]
mod tls;

/// Includes the code that `balafon-codegen` has generated for a protobuf package, such as
/// `include_proto!("helloworld")`.
#[macro_export]
macro_rules! include_proto {
    ($package:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $package, ".rs"));
    };
}

/// `google.rpc`: the status on the wire and the standard error details.
#[allow(missing_docs, clippy::doc_markdown)]
pub mod rpc {
    include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));

    /// Describes the messages of this module, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/google.rpc.descriptors.bin"));
}

pub use prost;
pub use prost_types;

#[doc(inline)]
pub use crate::grpc::call::{Call, CallHandle, Charge, MetadataMut, Outcome, Peer, PeerAddr};
#[doc(inline)]
pub use crate::grpc::code::Code;
#[doc(inline)]
pub use crate::grpc::compression::{Compression, Encoding};
#[doc(inline)]
pub use crate::grpc::exchange::MessageEvent;
#[doc(inline)]
pub use crate::grpc::interceptor::{Interceptor, Next};
#[doc(inline)]
pub use crate::grpc::metadata::{
    AsciiKey, AsciiValue, BinaryKey, InvalidMetadata, LookupKey, Metadata,
};
#[doc(inline)]
pub use crate::grpc::method::{Method, Rpc, UNKNOWN_METHOD};
#[doc(inline)]
pub use crate::grpc::options::CallOptions;
#[doc(inline)]
pub use crate::grpc::request::{Request, Response};
#[doc(inline)]
pub use crate::grpc::router::{ConfigName, Router};
#[cfg(feature = "tls")]
#[doc(inline)]
pub use crate::grpc::server::{ClientCertificate, SharedTls, Tls};
#[doc(inline)]
pub use crate::grpc::server::{
    Listeners, Server, ServerStats, exit_at_next_signal, shutdown_signal,
};
#[doc(inline)]
pub use crate::grpc::service::{Service, ServiceBuilder, ServiceInfo};
#[doc(inline)]
pub use crate::grpc::sink::Sink;
#[doc(inline)]
pub use crate::grpc::status::Status;
#[doc(inline)]
pub use crate::grpc::streaming::Streaming;
#[doc(inline)]
pub use crate::log_throttle::LogThrottle;
#[cfg(any(feature = "https", feature = "redis"))]
#[doc(inline)]
pub use crate::tls::ClientTls;
#[cfg(feature = "tls")]
#[doc(inline)]
pub use crate::tls::TlsError;

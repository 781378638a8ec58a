//! A gRPC server library, written by hand on HTTP/2 (the h2 crate).
//!
//! A service is a trait that `balafon-codegen` generates from a `.proto` file, with one plain
//! `async fn` for each RPC. A streaming handler writes its messages to a [`Sink`] and returns the
//! call's result. An [`Interceptor`] is plain code around `next.run(call).await`.
//!
//! The book (`docs/`) shows the whole way from a `.proto` file to a client's call, and `examples/`
//! has complete programs. This example registers a method without generated code:
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
//!             out.send(number).await?; // waits for the client's flow control
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
//!         let outcome = next.run(call).await; // ready when the call ends, also if it streams
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
//! # The path of a call
//!
//! ```text
//! server::accept         accepts connections from the listeners
//!  -> connection::serve  TLS handshake if TLS is set, HTTP/2 handshake, drain
//!  -> turns              accepts streams, polls the new and the woken calls of a connection
//!  -> server_call        one for each stream
//!       start            path -> Route, headers -> RequestHead, then builds the Call
//!       round            receives bytes, polls the handler, sends bytes
//!       response         headers, messages, trailers
//!  -> router             runs the handler of the route; an unknown path has the fallback
//!  -> interceptors       the router's, then the service's; the first added is the outermost
//!  -> handler            decodes the request, calls the trait's method, encodes the response
//!  <- Outcome            back through the interceptors to server_call, which sends the trailers
//! ```
//!
//! One call is one future. It ends once, with one status, in `server_call`. A deadline, a reset, a
//! shutdown and a panic end the same future. A call whose headers break a rule of gRPC still passes
//! through the interceptors. A request that is not gRPC gets an HTTP response, and no interceptor
//! runs.
//!
//! # Modules
//!
//! - [`grpc`]: the protocol and its runtime. The crate root exports the most used types.
//! - [`interceptors`] and [`services`]: ready-made interceptors and services, usable with any
//!   service.
//! - [`google::rpc`]: the messages of `google.rpc`, such as the error details.
//! - [`testing`]: calls handlers in tests, without a network.
//! - [`file_watch`]: decides when the changed contents of a file take effect.
//!
//! # Types of other crates
//!
//! Public signatures name types of these crates, whose major version belongs to the API:
//!
//! - `prost` and `prost-types`, which this crate exports, for messages;
//! - `bytes` and `tokio`, for buffers and sockets;
//! - `http`, for [`Metadata::as_headers`], [`Call::extensions`] and [`grpc::head`];
//! - `prometheus`, with the feature `metrics`: `Metrics` is a collector of a registry.
//!
//! TLS, Redis and HTTP/2 libraries stay behind types of this crate.
//!
//! # Features
//!
//! Only `gzip` is on by default.
//!
//! - `gzip`, `deflate`, `zstd`: compression of messages.
//! - `tls`: `Server::tls`, implemented with rustls and ring.
//! - `access-log`: `interceptors::AccessLog`, one log line for each call.
//! - `auth`: `interceptors::auth`, authentication and permissions. Includes `tls`.
//! - `rate-limit`: `interceptors::rate_limit`, counted in this process.
//! - `redis`: rate limits that several instances share. Includes `rate-limit` and `tls`.
//! - `metrics`: `interceptors::Metrics`, for Prometheus.
//! - `otlp`: `interceptors::traces`, exports spans to an OTLP collector. Includes `tls`.

// Generated code refers to this crate as `balafon`, also inside of this crate.
extern crate self as balafon;

#[cfg(doctest)]
mod book;
mod cut;
pub mod file_watch;
pub mod grpc;
mod http2;
#[cfg(feature = "_https")]
mod http_client;
pub mod interceptors;
mod log_throttle;
mod rate;
pub mod services;
pub mod testing;
#[cfg(feature = "tls")]
mod tls;

/// Includes the code that `balafon-codegen` generated for a protobuf package, such as
/// `include_proto!("helloworld")`.
#[macro_export]
macro_rules! include_proto {
    ($package:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $package, ".rs"));
    };
}

/// The protobuf package `google.rpc`: the status on the wire and the standard error details.
#[allow(missing_docs, clippy::doc_markdown)]
pub mod google {
    /// The status on the wire and the standard error details.
    pub mod rpc {
        include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));

        /// The descriptors of this module's messages, for reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] =
            include_bytes!(concat!(env!("OUT_DIR"), "/google.rpc.descriptors.bin"));
    }
}

pub use prost;
pub use prost_types;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use crate::http2::connection::fuzzing as http2_engine;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use crate::http2::hpack::fuzzing as hpack;

#[doc(inline)]
pub use crate::grpc::call::{Call, CallHandle, Charge, MetadataMut, Outcome, Peer, PeerAddr};
#[doc(inline)]
pub use crate::grpc::code::Code;
#[doc(inline)]
pub use crate::grpc::compression::{Compression, Encoding};
#[doc(inline)]
pub use crate::grpc::encoded::Encoded;
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
    Http2, Listeners, Server, ServerStats, UnknownHttp2, exit_at_next_signal, shutdown_signal,
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
#[cfg(any(feature = "_https", feature = "redis"))]
#[doc(inline)]
pub use crate::tls::ClientTls;
#[cfg(feature = "tls")]
#[doc(inline)]
pub use crate::tls::TlsError;

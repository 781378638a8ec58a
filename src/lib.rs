//! gRPC written by hand on HTTP/2.
#![doc = "WIP"]

// Generated code names this crate as its users' code does.
extern crate self as balafon;

#[cfg(feature = "user-server")]
#[doc(hidden)]
pub mod app;
pub mod grpc;
pub mod interceptors;
pub mod services;
pub mod testing;

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
}

pub use prost;
pub use prost_types;

pub use crate::grpc::call::{Call, Cancellation, Counts, MetadataMut, Outcome, Peer, PeerAddr};
pub use crate::grpc::code::Code;
pub use crate::grpc::exchange::MessageEvent;
pub use crate::grpc::interceptor::{Interceptor, Next};
pub use crate::grpc::message::{Request, Response, Sink, Streaming};
pub use crate::grpc::metadata::{AsciiKey, AsciiValue, BinaryKey, InvalidMetadata, Metadata};
pub use crate::grpc::method::{Method, Rpc, UNKNOWN_METHOD};
pub use crate::grpc::router::Router;
pub use crate::grpc::server::{Server, shutdown_signal};
pub use crate::grpc::service::{Service, ServiceBuilder, ServiceInfo};
pub use crate::grpc::status::Status;

#[cfg(feature = "user-server")]
pub mod users;

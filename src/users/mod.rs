//! The user service: domain, stores, and the gRPC service in front of them.

pub mod domain;
pub mod store;

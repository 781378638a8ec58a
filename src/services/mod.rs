//! Services that most servers want. They use the crate's public API and nothing else, so they
//! also show how a service is written.

pub mod health;
pub mod reflection;

//! The integration tests, one module per topic.
#![allow(clippy::unwrap_used)] // A test stops where an unexpected value appears.
#![allow(unreachable_pub)] // No other crate can reach the items of this binary.

mod access;
mod admin;
mod api;
mod auth;
mod bandwidth;
mod batches;
mod bounds;
mod budgets;
mod bystanders;
mod clients;
mod clock;
mod codes;
mod compression;
mod concurrency;
mod configuration;
mod connections;
mod copies;
#[cfg(target_os = "linux")]
mod disks;
mod downstream;
mod durability;
mod fairness;
mod handlers;
mod interceptors;
mod lifetimes;
mod messages;
mod privacy;
mod program;
mod proxy_protocol;
mod rate_limit;
mod raw_wire;
mod repeats;
mod robustness;
mod rules;
mod scans;
mod shutdown;
#[cfg(unix)]
mod silence;
mod sockets;
mod spawned;
mod stalled_log;
mod stores;
mod support;
mod tls;
mod traces;
mod trust;
mod views;
mod wire;

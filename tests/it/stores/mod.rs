//! The contract of all stores, and tests of each store.

mod contract;
mod memory;
#[cfg(target_os = "linux")]
mod postgres;
mod sqlite;

//! What every store promises (`contract`), asked of each of them.

mod contract;
mod memory;
#[cfg(target_os = "linux")]
mod postgres;
mod sqlite;

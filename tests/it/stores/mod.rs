//! What every store promises (`contract.rs`), asked of each of them.

mod contract;
mod memory;
mod sqlite;

//! Services that most servers want. They use the crate's public API and nothing else, so they
//! also show how a service is written.

pub mod health;
pub mod reflection;

/// The longest request of health and reflection, in bytes. A request holds the name of a service,
/// file or symbol, of which the longest have hundreds of bytes; and anybody may send it, without
/// credentials.
const MAX_REQUEST: usize = 4 * 1024;

//! Services that most servers need. They use only the public API of the crate, so they also show how to
//! write a service.

pub mod health;
pub mod reflection;

/// The longest request of health and reflection, in bytes. A request has the name of a service, file or
/// symbol; the longest have hundreds of bytes. Clients may send it without credentials.
const MAX_REQUEST: usize = 4 * 1024;

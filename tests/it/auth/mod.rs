//! Authentication and permissions.

mod attacks;
mod failures;
mod files;
mod issuer;
mod permissions;
pub mod support;
mod ways;

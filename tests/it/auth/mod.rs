//! Who calls, and what they may.

mod attacks;
mod failures;
mod files;
mod permissions;
pub mod support;
mod ways;

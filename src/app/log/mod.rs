//! The log: what its lines look like, and how they get out.

mod lines;
mod output;

pub use self::lines::Lines;
pub use self::output::Output;

//! The log: what its lines look like, and how they get out.

mod escaped;
mod lines;
mod output;

pub use self::lines::Lines;
pub(crate) use self::lines::TerminalFields;
pub(crate) use self::output::AT_EXIT;
pub use self::output::Output;

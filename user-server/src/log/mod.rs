//! The log: how it starts, the format of its lines, and the thread that writes them.

mod escaped;
mod lines;
mod output;
mod start;

pub use self::lines::Lines;
pub(crate) use self::lines::TerminalFields;
pub(crate) use self::output::AT_EXIT;
pub use self::output::Output;
pub(crate) use self::start::start;

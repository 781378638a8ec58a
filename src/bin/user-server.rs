//! The user service as a program: `user-server --help` says what it can do.

use std::process::ExitCode;

fn main() -> ExitCode {
    balafon::app::main()
}

//! The commands of the program, and their output.

use std::fmt;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use crate::check::{self, Finding};
use crate::cli::{Cli, Task, USAGE};
use crate::config::{self, Config, Layers, Problems};
use crate::log::{self, AT_EXIT};
use crate::serve;
use crate::start_error::StartError;
use crate::{copies, token};
use tracing_subscriber::fmt::MakeWriter;

/// Runs `user-server` with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = match Cli::from_args() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    if let Task::Sample = cli.task {
        return print(config::sample());
    }
    let (config, layers) = match cli.config() {
        Ok(loaded) => loaded,
        Err(problems) if matches!(cli.task, Task::Check) => {
            return report(problems.lines().map(|it| Finding::Error(it.into())));
        }
        Err(problems) => return print_errors(stderr(), &problems),
    };
    match &cli.task {
        Task::Check => report(check::run(&config, &layers)),
        Task::Migrate => report([check::migrate(&config, &layers)]),
        Task::Show | Task::Sample => print(config::effective(&layers)),
        Task::Token(claims) => print_result(token::sign(claims, &config, &layers)),
        Task::Copy(copy) => print_result(copies::run(copy, &config, &layers)),
        Task::Serve => serve_with_log(&config, &layers),
    }
}

/// Writes to the standard output. A failure is ignored: the reader may have closed the pipe.
fn print(text: impl fmt::Display) -> ExitCode {
    let _ = write!(stdout(), "{text}");
    ExitCode::SUCCESS
}

fn print_result(result: Result<String, StartError>) -> ExitCode {
    match result {
        Ok(line) => print(format_args!("{line}\n")),
        Err(error) => print_errors(stderr(), &error.into()),
    }
}

/// Writes a line for each finding. The exit code is [`USAGE`] if one of them is an error.
fn report(findings: impl IntoIterator<Item = Finding>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for finding in findings {
        if let Finding::Error(_) = finding {
            code = ExitCode::from(USAGE);
        }
        let _ = writeln!(stdout(), "{finding}");
    }
    code
}

fn print_errors(mut writer: impl Write, problems: &Problems) -> ExitCode {
    for line in problems.lines() {
        let _ = writer.write_all(format!("user-server: {line}\n").as_bytes());
    }
    ExitCode::from(USAGE)
}

/// Serves until a signal. The log is flushed last, but only for a moment: its reader may have stalled.
fn serve_with_log(config: &Config, layers: &Layers) -> ExitCode {
    let log = match log::start(config.log.format, &config.log.level) {
        Ok(log) => log,
        Err(error) => {
            let error = StartError::caused_by("cannot start the log", error);
            return print_errors(stderr(), &error.into());
        }
    };
    let code = match serve::run(config, layers, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => print_errors(log.make_writer(), &error.into()),
    };
    log.flush(AT_EXIT);
    code
}

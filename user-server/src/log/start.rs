use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, stderr};
use std::panic::{self, PanicHookInfo};
use std::thread;

use tracing_subscriber::{EnvFilter, fmt};

use super::{Lines, Output, TerminalFields};
use crate::config::LogFormat;

/// Starts the log on the standard error output. From then on, only the log's own thread writes there: a
/// write may block for any length of time.
pub(crate) fn start(format: LogFormat, level: &str) -> io::Result<Output> {
    let filter = EnvFilter::new(level);
    let output = Output::new(stderr())?;
    let builder = fmt().with_env_filter(filter).with_writer(output.clone());
    // Internal errors would be written to the same output.
    let builder = builder.log_internal_errors(false);
    match format {
        LogFormat::Pretty if stderr().is_terminal() => builder.fmt_fields(TerminalFields).init(),
        LogFormat::Pretty => builder.event_format(Lines::Text).init(),
        LogFormat::Json => builder.event_format(Lines::Json).init(),
    }
    panic::set_hook(Box::new(log_panic));
    Ok(output)
}

/// Logs a panic. Unlike the default hook, it does not wait for the standard error output.
fn log_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let backtrace = Backtrace::capture();
    let captured = backtrace.status() == BacktraceStatus::Captured;
    tracing::error!(
        target: "balafon::panic",
        panic = text.unwrap_or("not a text"),
        thread = thread::current().name().unwrap_or("unnamed"),
        location = info.location().map(tracing::field::display),
        backtrace = captured.then(|| tracing::field::display(backtrace)),
        "panicked"
    );
}

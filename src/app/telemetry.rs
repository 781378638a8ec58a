use std::io::{self, IsTerminal, Stderr, stderr};

use tracing_subscriber::{EnvFilter, fmt};

use super::config::{Config, LogFormat};
use super::log::{Lines, Output};

/// Starts the log, on the standard error output. The last lines go out when what it gives back, if
/// anything, is dropped.
pub(super) fn init(config: &Config) -> io::Result<Option<Output<Stderr>>> {
    let filter = EnvFilter::new(&config.log_level);
    // A log that cannot be written must not take the service with it: complaining about it on the
    // same output would panic.
    let builder = fmt().with_env_filter(filter).with_writer(stderr).log_internal_errors(false);
    let lines = match config.log_format {
        LogFormat::Pretty if stderr().is_terminal() => {
            builder.init();
            return Ok(None);
        }
        LogFormat::Pretty => Lines::Text,
        LogFormat::Json => Lines::Json,
    };
    let output = Output::new(stderr())?;
    builder.with_writer(output.clone()).event_format(lines).init();
    Ok(Some(output))
}

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, fmt};

use super::config::{Config, LogFormat};
use super::log::Lines;

/// Starts the log, on the standard error output.
pub(super) fn init(config: &Config) {
    let filter = EnvFilter::new(&config.log_level);
    // A log that cannot be written must not take the service with it: complaining about it on the
    // same output would panic.
    let builder = fmt().with_env_filter(filter).with_writer(stderr).log_internal_errors(false);
    match config.log_format {
        LogFormat::Pretty if stderr().is_terminal() => builder.init(),
        LogFormat::Pretty => builder.event_format(Lines::Text).init(),
        LogFormat::Json => builder.event_format(Lines::Json).init(),
    }
}

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use super::StartError;
use super::cli::{Cli, LogFormat};

/// Starts the log, on the standard error output.
pub(super) fn init(cli: &Cli) -> Result<(), StartError> {
    let filter = EnvFilter::try_new(&cli.log_level).map_err(|error| {
        StartError(format!(
            "--log-level {:?} is not valid: {error}; wanted a level (error, warn, info, debug, \
             trace), or target=level pairs such as info,balafon::access=warn",
            cli.log_level
        ))
    })?;
    let builder = fmt().with_env_filter(filter).with_writer(stderr);
    match cli.log_format {
        LogFormat::Pretty => builder.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
    }
    Ok(())
}

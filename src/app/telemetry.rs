use std::io::{IsTerminal, stderr};
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

use super::StartError;
use super::cli::{Cli, LogFormat};

/// Starts the log, on the standard error output.
pub(super) fn init(cli: &Cli) -> Result<(), StartError> {
    let invalid = || {
        StartError(format!(
            "--log-level {:?} is not valid: wanted off, error, warn, info, debug or trace, also by \
             target, such as info,balafon::access=warn",
            cli.log_level
        ))
    };
    // A word that is no level would be taken for a target, and everything else be off.
    if !cli
        .log_level
        .split(',')
        .all(|part| part.contains('=') || LevelFilter::from_str(part).is_ok())
    {
        return Err(invalid());
    }
    let filter = EnvFilter::try_new(&cli.log_level).map_err(|_| invalid())?;
    // A log that cannot be written must not take the service with it: complaining about it on the
    // same output would panic.
    let builder = fmt().with_env_filter(filter).with_writer(stderr).log_internal_errors(false);
    match cli.log_format {
        LogFormat::Pretty => builder.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
    }
    Ok(())
}

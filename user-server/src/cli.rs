//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::{self, Config, FILE_VARIABLE, Layers, Problems};
use crate::copies::{self, Copy};
use crate::routes;
use crate::token::{self, Claims};

/// The exit code for an error that the user can fix, such as a wrong setting or a port in use.
pub(super) const USAGE: u8 = 2;

const ABOUT: &str = "\
A gRPC user service: create, read, stream and update users.

Try it:

  user-server &
  grpcurl -plaintext -d '{\"name\": \"Alice\", \"email\": \"alice@example.com\"}' \\
    localhost:9090 ru.tinkoff.kora.example.UserService/CreateUser
  grpcurl -plaintext localhost:9090 ru.tinkoff.kora.example.UserService/GetAllUsers

A setting is a flag, an environment variable or a key of a TOML file. Flags override variables, and
variables override the file. Durations and sizes have units, as in 30s and 4MiB. The value off
switches a limit, a timeout or a mode off, where the help of the setting names it.

SIGINT and SIGTERM shut the server down. Health becomes NOT_SERVING, and the drain begins after
--lame-duck. In the drain, open calls may finish, and new connections are refused. Calls that are
still open after --drain-timeout end with UNAVAILABLE. The exit code is 0. A second signal ends the
process immediately, with exit code 130. SIGHUP makes the server read certificates, keys and all
other watched files now. If the server cannot start, it prints the error and exits with code 2.";

/// The task of this run of the program.
pub(super) enum Task {
    Serve,
    /// Look for mistakes in the configuration.
    Check,
    /// Create or migrate the tables of the store.
    Migrate,
    /// Print the effective configuration.
    Show,
    /// Print a file with every setting.
    Sample,
    /// Print a token with these claims.
    Token(Claims),
    /// Back up or restore the store.
    Copy(Copy),
}

/// The command line.
pub(super) struct Cli {
    pub(super) task: Task,
    matches: ArgMatches,
}

impl Cli {
    /// Parses the arguments of the process.
    ///
    /// # Errors
    /// The exit code, if the arguments are wrong or only ask for help.
    pub(super) fn from_args() -> Result<Self, ExitCode> {
        let mut matches = command().try_get_matches().map_err(|error| {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
        })?;
        let Some((name, submatches)) = matches.remove_subcommand() else {
            return Ok(Self { task: Task::Serve, matches });
        };
        let task = match name.as_str() {
            "check" => Task::Check,
            "migrate" => Task::Migrate,
            "token" => Task::Token(Claims::of(&submatches)),
            "backup" => Task::Copy(Copy::Backup(copies::file(&submatches))),
            "restore" => Task::Copy(Copy::Restore(copies::file(&submatches))),
            _ if submatches.get_flag("sample") => Task::Sample,
            _ => Task::Show,
        };
        // They include the flags before the command, because all flags are global.
        Ok(Self { task, matches: submatches })
    }

    /// Loads the configuration from the flags, the environment and the file.
    pub(super) fn config(&self) -> Result<(Config, Layers), Problems> {
        let flags = |name: &str| -> Vec<String> {
            self.matches.get_many(name).into_iter().flatten().cloned().collect()
        };
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            // A value that is not Unicode gets a replacement character, which `Layers` refuses.
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        let file: Option<&PathBuf> = self.matches.get_one("config");
        // Trimmed as every setting: see `Layers::set`.
        let file = file.map(|path| path.to_str().map_or(path.as_path(), |it| Path::new(it.trim())));
        config::load(flags, variables, file, routes::methods())
    }
}

fn command() -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env(FILE_VARIABLE)
        .hide_env_values(true)
        .value_parser(value_parser!(PathBuf))
        .global(true)
        .help("The path of a TOML file with settings");
    let sample = Arg::new("sample")
        .long("sample")
        .action(ArgAction::SetTrue)
        .help("Print a sample file with every setting, commented out, instead");
    let show = Command::new("config")
        .about("Print the effective configuration and the origin of each value")
        .arg(sample);
    let check = Command::new("check").about(
        "Look for mistakes in the configuration, and in the files and servers that it names. The \
         exit code is 2 if there are any",
    );
    let migrate = Command::new("migrate").about(
        "Create or migrate the tables in PostgreSQL, as the role that owns them. The role that serves \
         then needs USAGE on their schema, and SELECT, INSERT, UPDATE and DELETE on the tables",
    );
    Command::new("user-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .max_term_width(100)
        .arg(file)
        .args(config::flags())
        .subcommands([show, check, migrate, token::command()])
        .subcommands(copies::commands())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        command().debug_assert();
    }
}

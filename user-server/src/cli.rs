use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::config::{self, Config, FILE_VARIABLE, Layers, Problems};
use super::copies::{self, Copy};
use super::token::{self, Wanted};

const ABOUT: &str = "\
A gRPC user service: create, read, stream and update users.

Try it:

  user-server &
  grpcurl -plaintext -d '{\"name\": \"Alice\", \"email\": \"alice@example.com\"}' \\
    localhost:9090 ru.tinkoff.kora.example.UserService/CreateUser
  grpcurl -plaintext localhost:9090 ru.tinkoff.kora.example.UserService/GetAllUsers

Settings are flags, variables of the environment, or keys of a TOML file, in this order. Durations
and sizes have units: 30s, 4MiB.

SIGINT or SIGTERM makes health NOT_SERVING and, after the lame duck's time, drains: open calls
may end, new connections are refused; what is left after the drain timeout is ended with
UNAVAILABLE; the exit code is 0. A second signal stops at once, with 130. SIGHUP has certificates,
keys and the other files that are watched read at once. What cannot start exits with 2 and says why.";

/// What the program is to do.
pub(super) enum Task {
    Serve,
    /// Look for mistakes.
    Check,
    /// Make the tables of the store, or bring them up to date.
    Migrate,
    /// Print what is in effect.
    Show,
    /// Print a file with every setting.
    Sample,
    /// Print a token.
    Token(Wanted),
    /// Copy the store.
    Copy(Copy),
}

/// The command line.
pub(super) struct Cli {
    pub(super) task: Task,
    matches: ArgMatches,
}

impl Cli {
    /// The arguments of the process, or the code with which it ends now.
    pub(super) fn from_args() -> Result<Self, ExitCode> {
        let mut matches = command().try_get_matches().map_err(|error| {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(super::USAGE))
        })?;
        let Some((name, matches_of_it)) = matches.remove_subcommand() else {
            return Ok(Self { task: Task::Serve, matches });
        };
        let task = match name.as_str() {
            "check" => Task::Check,
            "migrate" => Task::Migrate,
            "token" => Task::Token(Wanted::of(&matches_of_it)),
            "backup" => Task::Copy(Copy::Backup(copies::file(&matches_of_it))),
            "restore" => Task::Copy(Copy::Restore(copies::file(&matches_of_it))),
            _ if matches_of_it.get_flag("sample") => Task::Sample,
            _ => Task::Show,
        };
        // Which has the flags that stand before it, too.
        Ok(Self { task, matches: matches_of_it })
    }

    /// What the flags, the environment and the file say.
    pub(super) fn config(&self) -> Result<(Config, Layers), Problems> {
        let flags = |name: &str| -> Vec<String> {
            self.matches.get_many(name).into_iter().flatten().cloned().collect()
        };
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            // One that is not Unicode cannot be right: it is shown as what it is not.
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        let file: Option<&PathBuf> = self.matches.get_one("config");
        // As with all settings: see `Layers::set`.
        let file = file.map(|path| path.to_str().map_or(path.as_path(), |it| Path::new(it.trim())));
        config::load(flags, variables, file)
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
        .help("A TOML file with settings");
    let sample = Arg::new("sample")
        .long("sample")
        .action(ArgAction::SetTrue)
        .help("Print a file with every setting instead, commented out");
    let show = Command::new("config")
        .about("Print the configuration that is in effect, and where each value comes from")
        .arg(sample);
    let check = Command::new("check").about(
        "Look for mistakes in the configuration and in what it names; the exit code is 2 if there \
         are any",
    );
    let migrate = Command::new("migrate").about(
        "Make the tables in PostgreSQL, or bring them up to date, as the role that is to own them; \
         the role that serves then needs USAGE on their schema, and SELECT, INSERT, UPDATE and DELETE",
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
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}

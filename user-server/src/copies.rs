//! `user-server backup` and `user-server restore`.

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::config::{Config, Layers, Store};
use crate::start_error::StartError;
use crate::store::sqlite::{Copied, SqliteStore};

const BACKUP: &str = "\
Copy a SQLite store to another file. The copy is a consistent snapshot, also while a server uses the store";

const RESTORE: &str = "\
Replace a SQLite store with a backup. No server may use the store, and its previous contents are lost";

const EXAMPLE: &str = "\
The settings name the store:

  user-server --store sqlite:/var/lib/users.db backup users-2026-11-28.db
  user-server --store sqlite:/var/lib/users.db restore users-2026-11-28.db

Exit code 0 means that the copy is complete, verified and synced to the disk. Until then the file has
another name.";

/// A copy between the store and a file.
pub(super) enum Copy {
    Backup(PathBuf),
    Restore(PathBuf),
}

pub(super) fn commands() -> [Command; 2] {
    let command = |name, about, help| {
        let file = Arg::new("file").value_name("FILE").required(true);
        let file = file.value_parser(value_parser!(PathBuf)).help(help);
        Command::new(name).about(about).after_help(EXAMPLE).arg(file)
    };
    [
        command("backup", BACKUP, "The path of the copy. The file must not exist"),
        command("restore", RESTORE, "The path of a copy that `backup` has created"),
    ]
}

pub(super) fn file(matches: &ArgMatches) -> PathBuf {
    matches.get_one("file").cloned().unwrap_or_default()
}

/// Copies, and returns a line that describes the result.
pub(super) fn run(copy: &Copy, config: &Config, layers: &Layers) -> Result<String, StartError> {
    let store = store(config, layers)?;
    let copied = match copy {
        Copy::Backup(to) => SqliteStore::backup(store, to, Progress::default().show()),
        Copy::Restore(from) => SqliteStore::restore(store, from, Progress::default().show()),
    };
    let failed = |error| StartError::caused_by(layers.name_at_origin("store"), error);
    let Copied { users, bytes } = copied.map_err(failed)?;
    let (from, to) = match copy {
        Copy::Backup(to) => (store, to.as_path()),
        Copy::Restore(from) => (from.as_path(), store),
    };
    let (from, to) = (from.display(), to.display());
    Ok(format!("{users} users, {bytes} bytes: {to} is a copy of {from}"))
}

fn store<'a>(config: &'a Config, layers: &Layers) -> Result<&'a Path, StartError> {
    let instead = match &config.store.location {
        Store::Sqlite(path) => return Ok(path),
        Store::Memory => "memory: has no file",
        Store::Postgres(_) => "use pg_dump and pg_restore for PostgreSQL",
    };
    Err(StartError::new(format!(
        "{}: only a SQLite store can be copied: {instead}",
        layers.name_at_origin("store")
    )))
}

/// Shows the progress on a terminal.
#[derive(Default)]
struct Progress {
    percent: u32,
}

impl Progress {
    fn show(mut self) -> impl FnMut(f64) {
        let is_terminal = stderr().is_terminal();
        move |part| {
            let percent = (100.0 * part) as u32;
            if is_terminal && percent > self.percent {
                self.percent = percent;
                let end = if percent == 100 { ": checking\n" } else { "" };
                let _ = write!(stderr(), "\r{percent:3} %{end}");
            }
        }
    }
}

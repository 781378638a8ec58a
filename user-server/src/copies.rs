//! `user-server backup` and `user-server restore`.

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};

use super::StartError;
use super::config::{Config, Layers, Store};
use crate::store::sqlite::{Copied, SqliteStore};

const BACKUP: &str = "\
Copy the store, a file of SQLite, to another file, as it is at one moment; also while it is served";

const RESTORE: &str = "\
Replace the store, a file of SQLite that is not served, by a copy of a backup: what it held is lost";

const EXAMPLE: &str = "\
The store is that of the settings:

  user-server --store sqlite:/var/lib/users.db backup users-2026-11-28.db
  user-server --store sqlite:/var/lib/users.db restore users-2026-11-28.db

The copy is complete, checked and on the disk when the command ends with 0. Until then the file has
another name.";

/// What is to be copied.
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
        command("backup", BACKUP, "The copy, which must not be there yet"),
        command("restore", RESTORE, "A copy that `backup` has made"),
    ]
}

pub(super) fn file(matches: &ArgMatches) -> PathBuf {
    matches.get_one("file").cloned().unwrap_or_default()
}

/// What has happened, as a line.
pub(super) fn run(copy: &Copy, config: &Config, layers: &Layers) -> Result<String, StartError> {
    let store = store(config, layers)?;
    let copied = match copy {
        Copy::Backup(to) => SqliteStore::backup(store, to, Progress::default().show()),
        Copy::Restore(from) => SqliteStore::restore(store, from, Progress::default().show()),
    };
    let failed = |error| StartError(format!("{}: {error}", layers.place("store")));
    let Copied { users, bytes } = copied.map_err(failed)?;
    let (from, to) = match copy {
        Copy::Backup(to) => (store, to.as_path()),
        Copy::Restore(from) => (from.as_path(), store),
    };
    let (from, to) = (from.display(), to.display());
    Ok(format!("{users} users, {bytes} bytes: {to} is a copy of {from}"))
}

fn store<'a>(config: &'a Config, layers: &Layers) -> Result<&'a Path, StartError> {
    let instead = match &config.store {
        Store::Sqlite(path) => return Ok(path),
        Store::Memory => "users in memory are in no file",
        Store::Postgres(_) => "use pg_dump and pg_restore for PostgreSQL",
    };
    Err(StartError(format!(
        "{}: only a file of SQLite is copied: {instead}",
        layers.place("store")
    )))
}

/// What is done so far, for somebody who watches.
#[derive(Default)]
struct Progress {
    percent: u32,
}

impl Progress {
    fn show(mut self) -> impl FnMut(f64) {
        let is_watched = stderr().is_terminal();
        move |part| {
            let percent = (100.0 * part) as u32;
            if is_watched && percent > self.percent {
                self.percent = percent;
                let end = if percent == 100 { ": checking\n" } else { "" };
                let _ = write!(stderr(), "\r{percent:3} %{end}");
            }
        }
    }
}

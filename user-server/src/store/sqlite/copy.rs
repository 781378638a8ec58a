//! Backup and restore: copies of a whole database, each of one moment.
//!
//! ```text
//!  backup    users.db, users.db-wal ── one read transaction ──> FILE-partial ── checked, fsync ──> FILE
//!  restore   FILE ──> users.db-partial ── checked, fsync ──> users.db-restored
//!                  ── users.db-wal, -shm, -journal removed ──> users.db
//! ```
//!
//! From the moment on at which there is a `users.db-restored`, a restore is done: whoever opens the store next
//! completes it. Before that, nothing has changed.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::file::{self, Access, INDEX, JOURNAL, LOG, beside, cannot_open, identity, make_private};
use super::lock::Lock;
use super::{Found, StoreError, error, schema};

/// Pages that are copied between two reports of progress: 4 MiB.
const STEP: i32 = 1024;

/// How long a step waits for a database that is locked for a moment, such as one that is just opened.
const PAUSE: Duration = Duration::from_millis(10);

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// How many users.
    pub users: u64,
    /// The size of the copy.
    pub bytes: u64,
}

/// Copies a database, also while it is served. Tells `progress` which part of it is done, from 0 to 1.
pub(super) fn backup(
    database: &Path,
    to: &Path,
    progress: impl FnMut(f64),
) -> Result<Copied, StoreError> {
    if to.exists() {
        let to = to.display();
        let text = format!("{to} is there already: name another file, or remove that one");
        return Err(StoreError::unavailable(text));
    }
    if let Err(error) = fs::metadata(database) {
        let database = database.display();
        return Err(StoreError::unavailable(format!("cannot read {database}: {error}")));
    }
    // Its lock is given back at once: a server may start.
    if let Err(in_use) = Lock::inspect(database)?
        && in_use.0 == database
    {
        // SQLite would look for the log beside the wrong name.
        let text = in_use.of(database) + ": back it up under the name under which it is served";
        return Err(StoreError::unavailable(text));
    }
    let source = file::open(database, Access::Inspect)?;
    let part = beside(to, PARTIAL);
    let copied = copy(database, &source, &part, progress).and_then(|copied| {
        let named = fs::rename(&part, to).and_then(|()| sync_folder(to));
        named.map_err(|error| cannot_open(to, &error))?;
        Ok(copied)
    });
    if copied.is_err() {
        remove(&part);
    }
    copied
}

/// Replaces a database that nobody has open, or makes it, with a copy of another one.
pub(super) fn restore(
    database: &Path,
    from: &Path,
    progress: impl FnMut(f64),
) -> Result<Copied, StoreError> {
    let lock = Lock::take(database)?;
    let part = beside(database, PARTIAL);
    let copied = check_source(database, from).and_then(|()| {
        let source = file::open(from, Access::Inspect)?;
        copy(from, &source, &part, progress)
    });
    let done = copied.and_then(|copied| {
        let restored = beside(database, RESTORED);
        let named = fs::rename(&part, &restored).and_then(|()| sync_folder(&restored));
        named.map_err(|error| cannot_open(&restored, &error))?;
        complete_restore(database)?;
        Ok(copied)
    });
    if done.is_err() {
        remove(&part);
        if lock.has_made_it() && fs::metadata(database).is_ok_and(|file| file.len() == 0) {
            remove(database);
        }
    }
    done
}

/// Does what is left of a restore that was interrupted, if there is one. The caller has locked the store.
pub(super) fn complete_restore(database: &Path) -> Result<(), StoreError> {
    let restored = beside(database, RESTORED);
    if !restored.exists() {
        return Ok(());
    }
    // First: SQLite would take a log that it finds for that of the new database.
    let replaced = [LOG, INDEX, JOURNAL].iter().try_for_each(|suffix| {
        match fs::remove_file(beside(database, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    });
    let replaced = replaced.and_then(|()| sync_folder(database));
    let replaced = replaced.and_then(|()| fs::rename(&restored, database));
    let replaced = replaced.and_then(|()| sync_folder(database));
    replaced.map_err(|error| {
        let database = database.display();
        StoreError::unavailable(format!("cannot replace {database} by what is restored: {error}"))
    })
}

fn check_source(database: &Path, from: &Path) -> Result<(), StoreError> {
    let shown = from.display();
    match (identity(from), identity(database)) {
        (Err(error), _) => Err(StoreError::unavailable(format!("cannot read {shown}: {error}"))),
        (Ok(one), Ok(other)) if cfg!(unix) && one == other => {
            Err(StoreError::unavailable(format!("{shown} is the database that is to be replaced")))
        }
        _ => Ok(()),
    }
}

/// Copies what `source` holds now to a new file, and looks whether it is whole.
fn copy(
    name: &Path,
    source: &Connection,
    to: &Path,
    mut progress: impl FnMut(f64),
) -> Result<Copied, StoreError> {
    let of_source = |error: rusqlite::Error| error::of_file(name, &error);
    if schema::inspect_read_only(source).map_err(|error| error.of(name))? == Found::Nothing {
        return Err(StoreError::internal(format!(
            "{} holds no users: it is empty",
            name.display()
        )));
    }
    remove(to);
    let file = make_private(to).map_err(|error| cannot_open(to, &error))?;
    let of_copy = |error: rusqlite::Error| error::of_file(to, &error);
    let mut copy = Connection::open(to).map_err(of_copy)?;
    // It is not read before it is complete, and it is synced as a whole.
    let quick = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF";
    copy.execute_batch(quick).map_err(of_copy)?;
    // One moment, however long it takes: without this transaction a step would begin anew whenever somebody
    // has written since the one before it.
    source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema").map_err(of_source)?;
    let backup = Backup::new(source, &mut copy).map_err(of_copy)?;
    loop {
        match backup.step(STEP).map_err(of_copy)? {
            StepResult::Done => break,
            StepResult::More => {}
            _ => std::thread::sleep(PAUSE),
        }
        let done = backup.progress();
        progress(1.0 - f64::from(done.remaining) / f64::from(done.pagecount.max(1)));
    }
    drop(backup);
    source.execute_batch("COMMIT").map_err(of_source)?;
    // One file, that can be read where nothing can be written.
    copy.execute_batch("PRAGMA journal_mode = DELETE").map_err(of_copy)?;
    let check = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
    let check = check.map_err(of_source)?;
    if check != "ok" {
        return Err(StoreError::corrupt(format!("{}: {check}", name.display())));
    }
    let users = copy.query_row("SELECT count(*) FROM users", [], |row| row.get::<_, i64>(0));
    let users = users.map_err(of_source)?.unsigned_abs();
    drop(copy);
    let synced = file.sync_all().and_then(|()| file.metadata());
    let bytes = synced.map_err(|error| cannot_open(to, &error))?.len();
    Ok(Copied { users, bytes })
}

/// The name of a file in a folder is as durable as the folder.
fn sync_folder(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) if cfg!(unix) && folder.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// What is left of a copy that nobody needs.
fn remove(file: &Path) {
    for path in [file.to_owned(), beside(file, JOURNAL), beside(file, LOG), beside(file, INDEX)] {
        let _ = fs::remove_file(path);
    }
}

/// Of a copy that is not complete.
const PARTIAL: &str = "-partial";

/// Of a copy that is to become the database.
const RESTORED: &str = "-restored";

//! Backup and restore: consistent copies of a whole database.
//!
//! ```text
//!  backup    users.db, users.db-wal ── one read transaction ──> FILE-partial ── checked, fsync ──> FILE
//!  restore   FILE ──> users.db-partial ── checked, fsync ──> users.db-restored
//!                  ── users.db-wal, -shm, -journal removed ──> users.db
//! ```
//!
//! A restore is final once `users.db-restored` exists: see `restore.rs`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::file::{self, Access, INDEX, JOURNAL, LOG, beside, cannot_open, identity, make_private};
use super::lock::Lock;
use super::restore::{self, RESTORED, sync_folder};
use super::{Found, StoreError, error, schema};

/// The number of pages that are copied between two progress reports: 4 MiB.
const STEP: i32 = 1024;

/// The pause before a step is repeated if the database is locked for a moment, such as while it is opened.
const PAUSE: Duration = Duration::from_millis(10);

/// The result of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The number of users.
    pub users: u64,
    /// The size of the copy in bytes.
    pub bytes: u64,
}

/// Copies a database, also while a server uses it. `progress` receives the completed part, from 0 to 1.
pub(super) fn backup(
    database: &Path,
    to: &Path,
    progress: impl FnMut(f64),
) -> Result<Copied, StoreError> {
    if to.exists() {
        let to = to.display();
        let text = format!("{to} exists already: use another file, or remove it");
        return Err(StoreError::unavailable(text));
    }
    if let Err(error) = fs::metadata(database) {
        let database = database.display();
        return Err(StoreError::unavailable(format!("cannot read {database}: {error}")));
    }
    // The lock is released immediately, so that a server can start.
    if let Err(in_use) = Lock::inspect(database)?
        && in_use.0 == database
    {
        // SQLite would look for the log next to the wrong name.
        let text = in_use.of(database) + ": back it up under the name that the server uses";
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

/// Replaces a database with a copy of another one, or creates it. No process may have it open.
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
        restore::complete(database)?;
        Ok(copied)
    });
    if done.is_err() {
        remove(&part);
        if lock.has_created_it() && fs::metadata(database).is_ok_and(|file| file.len() == 0) {
            remove(database);
        }
    }
    done
}

fn check_source(database: &Path, from: &Path) -> Result<(), StoreError> {
    let shown = from.display();
    match (identity(from), identity(database)) {
        (Err(error), _) => Err(StoreError::unavailable(format!("cannot read {shown}: {error}"))),
        (Ok(one), Ok(other)) if cfg!(unix) && one == other => Err(StoreError::unavailable(
            format!("{shown} is the database itself, which the restore would replace"),
        )),
        _ => Ok(()),
    }
}

/// Copies the current contents of `source` to a new file, and verifies the copy.
fn copy(
    name: &Path,
    source: &Connection,
    to: &Path,
    mut progress: impl FnMut(f64),
) -> Result<Copied, StoreError> {
    let of_source = |error: rusqlite::Error| error::of_file(name, &error);
    if schema::inspect_read_only(source).map_err(|error| error.of(name))? == Found::Nothing {
        return Err(StoreError::internal(format!(
            "{} is empty: it has no user tables",
            name.display()
        )));
    }
    remove(to);
    let file = make_private(to).map_err(|error| cannot_open(to, &error))?;
    let of_copy = |error: rusqlite::Error| error::of_file(to, &error);
    let mut copy = Connection::open(to).map_err(of_copy)?;
    // The copy is not read before it is complete, and it is synced as a whole.
    let quick = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF";
    copy.execute_batch(quick).map_err(of_copy)?;
    // A consistent snapshot, however long the copy takes. Without this transaction, the copy would start again after
    // every write.
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
    // A single file, which is readable on a read-only file system.
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

/// Removes an incomplete copy.
fn remove(file: &Path) {
    for path in [file.to_owned(), beside(file, JOURNAL), beside(file, LOG), beside(file, INDEX)] {
        let _ = fs::remove_file(path);
    }
}

/// The suffix of an incomplete copy.
const PARTIAL: &str = "-partial";

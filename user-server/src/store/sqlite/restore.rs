//! The last step of a restore: the copy replaces the database.
//!
//! A restore is final once the file `users.db-restored` exists: the next process that opens the store completes it.
//! Before that, nothing has changed.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::StoreError;
use super::file::{INDEX, JOURNAL, LOG, beside};

/// The suffix of a copy that becomes the database.
pub(super) const RESTORED: &str = "-restored";

/// Completes a restore that was interrupted, if there is one. The caller has locked the store.
pub(super) fn complete(database: &Path) -> Result<(), StoreError> {
    let restored = beside(database, RESTORED);
    if !restored.exists() {
        return Ok(());
    }
    replace(database, &restored).map_err(|error| {
        let database = database.display();
        StoreError::unavailable(format!(
            "cannot replace {database} with the restored copy: {error}"
        ))
    })
}

fn replace(database: &Path, restored: &Path) -> io::Result<()> {
    // First: SQLite would apply an existing log to the new database.
    for suffix in [LOG, INDEX, JOURNAL] {
        match fs::remove_file(beside(database, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_folder(database)?;
    fs::rename(restored, database)?;
    sync_folder(database)
}

/// Syncs the folder of a file, which makes the name of the file durable.
pub(super) fn sync_folder(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) if cfg!(unix) && folder.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

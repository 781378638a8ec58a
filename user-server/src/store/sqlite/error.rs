//! Converts errors of SQLite to errors of stores.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use super::StoreError;

/// Why a change failed.
pub(super) enum Fault {
    /// The transaction failed, with all of its changes.
    Transaction(rusqlite::Error),
    /// Only this call failed.
    Call(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Transaction(error)
    }
}

/// The error of a statement.
pub(super) fn of_call(error: &Error) -> StoreError {
    classified(error, error.to_string())
}

/// The error of a statement, with the path of the file, for errors at the start.
pub(super) fn of_file(path: &Path, error: &Error) -> StoreError {
    classified(error, format!("{}: {error}", path.display()))
}

/// The texts of SQLite contain statements and files, never values.
fn classified(error: &Error, text: String) -> StoreError {
    match error.sqlite_error_code() {
        // Also for a quota, and for a file that the file system cannot extend.
        Some(ErrorCode::DiskFull) => StoreError::full(text),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::corrupt(text),
        // Another program has locked the file. Or the disk, the mount or the machine has a fault that an operator can
        // fix.
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory,
        ) => StoreError::unavailable(text),
        _ => StoreError::internal(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    #[test]
    fn sqlite_errors_have_the_right_kind() {
        let of = |code| of_call(&Error::SqliteFailure(ffi::Error::new(code), None));
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_LOCKED, ffi::SQLITE_IOERR, ffi::SQLITE_READONLY]
        {
            assert!(of(code).is_unavailable(), "{code}");
        }
        // Errors of the operating system: EIO at a write, at an fsync.
        for code in [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_CANTOPEN] {
            assert!(of(code).is_unavailable(), "{code}");
        }
        assert!(of(ffi::SQLITE_FULL).is_full());
        assert!(of(ffi::SQLITE_CORRUPT).is_corrupt());
        assert!(of(ffi::SQLITE_NOTADB).is_corrupt());
        assert!(of(ffi::SQLITE_MISUSE).is_internal());
        assert!(of_call(&Error::QueryReturnedNoRows).is_internal());
    }
}

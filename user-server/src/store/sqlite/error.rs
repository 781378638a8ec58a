//! What SQLite's errors mean for a store.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use super::StoreError;

pub(super) fn of_call(error: &Error) -> StoreError {
    classified(error, error.to_string())
}

/// For errors at the start, when it is not clear yet which file they are about.
pub(super) fn of_file(path: &Path, error: &Error) -> StoreError {
    classified(error, format!("{}: {error}", path.display()))
}

/// Texts of SQLite name statements and files, never values.
fn classified(error: &Error, text: String) -> StoreError {
    match error.sqlite_error_code() {
        // Also for a quota, and for files that a file system cannot make larger.
        Some(ErrorCode::DiskFull) => StoreError::full(text),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::corrupt(text),
        // Somebody else has the file for now; or the disk, the mount or the machine is ill, which
        // somebody may mend.
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
    fn whoever_may_try_again_and_whoever_must_act_is_told_so() {
        let of = |code| of_call(&Error::SqliteFailure(ffi::Error::new(code), None));
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_LOCKED, ffi::SQLITE_IOERR, ffi::SQLITE_READONLY]
        {
            assert!(of(code).is_unavailable(), "{code}");
        }
        // As the operating system's errors are told: EIO at a write, at an fsync.
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

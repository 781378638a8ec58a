//! Converts errors of PostgreSQL to errors of stores.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::StoreError;

/// Why a transaction failed.
pub(super) enum Fault {
    Database(Error),
    Store(StoreError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The error of a statement.
pub(super) fn of_call(error: &Error) -> StoreError {
    let text = text(error);
    let Some(state) = error.code() else {
        return if is_lost(error) {
            StoreError::unavailable(text)
        } else {
            StoreError::internal(text)
        };
    };
    match state {
        &SqlState::DISK_FULL => StoreError::full(text),
        &SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED => StoreError::corrupt(text),
        // A standby, or a database that is about to become the primary.
        &SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::unavailable(text),
        // The classes "connection exception", "transaction rollback", "insufficient resources", "object not
        // in prerequisite state", "operator intervention" and "system error", and the classes of logins and
        // names. An operator has to fix the latter.
        state => match &state.code()[..2] {
            "08" | "28" | "3D" | "40" | "53" | "55" | "57" | "58" => StoreError::unavailable(text),
            _ => StoreError::internal(text),
        },
    }
}

/// The error of a failed login.
pub(super) fn of_login(error: &Error) -> StoreError {
    match error.code() {
        Some(_) => of_call(error),
        None => StoreError::unavailable(text(error)),
    }
}

/// Whether the connection is lost, so that the result of the statement is unknown.
pub(super) fn is_lost(error: &Error) -> bool {
    let io = error.source().is_some_and(|source| source.is::<std::io::Error>());
    // An administrator has ended the connection, or the server has stopped.
    let ended = error.code().is_some_and(|state| state.code().starts_with("57P"));
    error.is_closed() || io || ended
}

/// Whether the transaction was rolled back because of a conflict with another one.
pub(super) fn is_conflict(error: &Error) -> bool {
    let conflicts = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|state| conflicts.contains(state))
}

/// Whether a prepared statement no longer exists ("prepared statement does not exist"), or has other types now
/// ("cached plan must not change result type"). The statement was not executed.
pub(super) fn is_stale(error: &Error) -> bool {
    let stale = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::FEATURE_NOT_SUPPORTED];
    error.code().is_some_and(|state| stale.contains(state))
}

/// Whether the database is read-only at present.
pub(super) fn is_read_only(error: &Error) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// The text with the cause, which `Display` leaves out, and without the details, which contain values of rows.
pub(super) fn text(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(error), _) => format!("{} ({})", error.message(), error.code().code()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

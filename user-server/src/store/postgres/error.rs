//! What PostgreSQL's errors mean for a store.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::StoreError;

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
        // A standby, or one that is about to be the primary.
        &SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::unavailable(text),
        // The classes "connection exception", "transaction rollback", "insufficient resources",
        // "lock not available" and such, "operator intervention", "system error", and those of
        // logins and names, which somebody has to mend at the database.
        state => match &state.code()[..2] {
            "08" | "28" | "3D" | "40" | "53" | "55" | "57" | "58" => StoreError::unavailable(text),
            _ => StoreError::internal(text),
        },
    }
}

/// Of a connection that was not made.
pub(super) fn of_login(error: &Error) -> StoreError {
    match error.code() {
        Some(_) => of_call(error),
        None => StoreError::unavailable(text(error)),
    }
}

/// Whether the connection is no more, so that nobody knows what has become of the statement.
pub(super) fn is_lost(error: &Error) -> bool {
    let io = error.source().is_some_and(|source| source.is::<std::io::Error>());
    // An administrator has ended it, or the server has stopped.
    let ended = error.code().is_some_and(|state| state.code().starts_with("57P"));
    error.is_closed() || io || ended
}

/// Whether the statement, with its transaction, was rolled back because of another one's.
pub(super) fn is_conflict(error: &Error) -> bool {
    let conflicts = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|state| conflicts.contains(state))
}

/// Whether a statement that was prepared has gone ("prepared statement does not exist"), or gives other
/// types than it did ("cached plan must not change result type"). It was not executed.
pub(super) fn is_stale(error: &Error) -> bool {
    let stale = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::FEATURE_NOT_SUPPORTED];
    error.code().is_some_and(|state| stale.contains(state))
}

/// Whether nothing can be written here, at present.
pub(super) fn is_read_only(error: &Error) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// With the cause, which `Display` leaves out; without details, which have values of rows.
pub(super) fn text(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(error), _) => format!("{} ({})", error.message(), error.code().code()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

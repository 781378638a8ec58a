//! The schema of the file, and its migrations.

use std::fmt;
use std::path::Path;

use rusqlite::Connection;

use super::{Found, StoreError, error};

/// The migrations, in order. A file has the number of migrations that it has applied. A released entry never changes.
/// New ones are added at the end.
const MIGRATIONS: &[&str] = &[
    // One tree, sorted by id: creations append to it, and scans read along it. `STRICT`, because SQLite would
    // otherwise accept any type in any column.
    "CREATE TABLE users (
        id              BLOB PRIMARY KEY,  -- the 16 bytes of a UUID
        name            TEXT NOT NULL,
        email           TEXT NOT NULL,
        created_seconds INTEGER NOT NULL,  -- since 1970
        created_nanos   INTEGER NOT NULL,
        status          INTEGER NOT NULL   -- 0 active, 1 inactive, 2 suspended
    ) STRICT, WITHOUT ROWID;",
    // The creations of idempotency keys, for a day. It has no personal data.
    "CREATE TABLE idempotency_keys (
        principal       TEXT NOT NULL,
        key             TEXT NOT NULL,
        fingerprint     BLOB NOT NULL,     -- of the name and the address
        user_id         BLOB NOT NULL,
        created_seconds INTEGER NOT NULL,  -- of the user
        created_nanos   INTEGER NOT NULL,
        PRIMARY KEY (principal, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_seconds);",
    // Keys of streams: the number of stored users, whether the stream is complete, and the ids.
    "ALTER TABLE idempotency_keys ADD COLUMN users INTEGER;  -- none, if it is no stream
    ALTER TABLE idempotency_keys ADD COLUMN ended INTEGER;
    CREATE TABLE idempotency_parts (
        principal       TEXT NOT NULL,
        key             TEXT NOT NULL,
        first           INTEGER NOT NULL,  -- how many users come before
        ids             BLOB NOT NULL,     -- the 16 bytes of each
        PRIMARY KEY (principal, key, first),
        FOREIGN KEY (principal, key) REFERENCES idempotency_keys ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;",
    // Imported users, whose ids this program has not issued, in the order of scans: see `cursor.rs`.
    "CREATE INDEX users_brought_in ON users (created_seconds, created_nanos, id)
        WHERE NOT (length(id) = 16 AND id < x'80'
        AND substr(id, 7, 1) >= x'70' AND substr(id, 7, 1) < x'80'
        AND substr(id, 9, 1) >= x'80' AND substr(id, 9, 1) < x'c0');",
];

/// The application id in the header of the file: "user".
const APPLICATION_ID: i32 = 0x7573_6572;

/// Migrates the file in one transaction. If the disk is full and the schema is current, it returns that error as a value:
/// users can be read.
pub(super) fn migrate(connection: &Connection) -> Result<Option<rusqlite::Error>, SchemaError> {
    // First, so that the file of another program is not changed.
    let found = version(connection)?;
    // With the log, readers continue while the writer writes, and a commit is one fsync. The mode is stored in the file.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Fails immediately if the file cannot be written, also without a migration.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let migrated = MIGRATIONS[found..].iter().try_for_each(|step| connection.execute_batch(step));
    let migrated = migrated.and_then(|()| {
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        rewrite(connection)?;
        connection.execute_batch("COMMIT")
    });
    match migrated {
        Err(error) if found == MIGRATIONS.len() && error::of_call(&error).is_full() => {
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK")?;
            }
            Ok(Some(error))
        }
        migrated => Ok(migrated.map(|()| None)?),
    }
}

/// Writes the schema version to the header of the file, even if it is unchanged.
pub(super) fn rewrite(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", MIGRATIONS.len() as i64)
}

/// The state of the file, also if it cannot be written.
pub(super) fn inspect_read_only(connection: &Connection) -> Result<Found, SchemaError> {
    Ok(Found::of(version(connection)?, MIGRATIONS.len()))
}

/// The state of the file, and the errors that [`migrate`] would have.
pub(super) fn inspect(connection: &Connection) -> Result<Found, SchemaError> {
    let found = inspect_read_only(connection)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    // Fails if the file cannot be written. The change stays in the memory of this connection.
    rewrite(connection)?;
    connection.execute_batch("ROLLBACK")?;
    Ok(found)
}

/// The number of migrations that the file has applied.
fn version(connection: &Connection) -> Result<usize, SchemaError> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let tables = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection.query_row(tables, [], |row| row.get(0))?;
    let version = number("user_version")?;
    if number("application_id")? != i64::from(APPLICATION_ID) {
        return if tables == 0 && version == 0 { Ok(0) } else { Err(SchemaError::Foreign) };
    }
    let known = usize::try_from(version).ok().filter(|version| *version <= MIGRATIONS.len());
    known.ok_or(SchemaError::Newer(version))
}

/// Why a file cannot be used.
pub(super) enum SchemaError {
    /// It belongs to another program.
    Foreign,
    /// It has this newer version.
    Newer(i64),
    Sqlite(rusqlite::Error),
}

impl SchemaError {
    pub(super) fn of(&self, path: &Path) -> StoreError {
        match self {
            Self::Sqlite(error) => error::of_file(path, error),
            _ => StoreError::internal(format!("{} {self}", path.display())),
        }
    }
}

impl From<rusqlite::Error> for SchemaError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("is a database of another program"),
            Self::Newer(version) => write!(
                f,
                "has schema version {version} of a newer program; this version knows up to {}",
                MIGRATIONS.len()
            ),
            Self::Sqlite(error) => error.fmt(f),
        }
    }
}

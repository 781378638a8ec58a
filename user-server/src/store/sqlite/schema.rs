//! What is in the file, and how an older file becomes a newer one.

use std::fmt;
use std::path::Path;

use rusqlite::Connection;

use super::{Found, StoreError, error};

/// How the schema came about. A file has a number: that of the entries that it has seen. An entry
/// that was released is never changed; what is new is added at the end.
const MIGRATIONS: &[&str] = &[
    // One tree, sorted by id: creations append to it, scans go along it. `STRICT` because SQLite
    // would else keep anything anywhere.
    "CREATE TABLE users (
        id              BLOB PRIMARY KEY,  -- the 16 bytes of a UUID
        name            TEXT NOT NULL,
        email           TEXT NOT NULL,
        created_seconds INTEGER NOT NULL,  -- since 1970
        created_nanos   INTEGER NOT NULL,
        status          INTEGER NOT NULL   -- 0 active, 1 inactive, 2 suspended
    ) STRICT, WITHOUT ROWID;",
    // What was created with a key, for a day. Nothing here says who it was.
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
    // The same of streams: how many users are stored, whether there are no more, and their ids.
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
    // Users whose ids are not of this program, in the order in which scans have them: see `order.rs`.
    "CREATE INDEX users_brought_in ON users (created_seconds, created_nanos, id)
        WHERE NOT (length(id) = 16 AND id < x'80'
        AND substr(id, 7, 1) >= x'70' AND substr(id, 7, 1) < x'80'
        AND substr(id, 9, 1) >= x'80' AND substr(id, 9, 1) < x'c0');",
];

/// In the head of the file: whose it is ("user").
const APPLICATION_ID: i32 = 0x7573_6572;

/// Makes the file one of this version, in one step: whatever happens, it is of one version. Gives why it
/// cannot be written, if that is for lack of room, and nothing has to be: its users can be read.
pub(super) fn migrate(connection: &Connection) -> Result<Option<rusqlite::Error>, SchemaError> {
    // Before anything is written to a file of somebody else.
    let found = version(connection)?;
    // Readers go on while the writer writes, and a commit is one fsync. It stays with the file.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Fails at once if the file cannot be written, also if there is nothing to do.
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

/// Writes the number of this version to the head of the file, which may have it already.
pub(super) fn rewrite(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", MIGRATIONS.len() as i64)
}

/// What there is, whether or not it can be written.
pub(super) fn inspect_read_only(connection: &Connection) -> Result<Found, SchemaError> {
    Ok(Found::of(version(connection)?, MIGRATIONS.len()))
}

/// What there is to [`migrate`], unless it must not or cannot be.
pub(super) fn inspect(connection: &Connection) -> Result<Found, SchemaError> {
    let found = inspect_read_only(connection)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    // Fails if the file cannot be written; nothing leaves this connection's memory.
    rewrite(connection)?;
    connection.execute_batch("ROLLBACK")?;
    Ok(found)
}

/// How many migrations the file has seen.
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
    /// It is the database of another program.
    Foreign,
    /// It has this version.
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
                "has schema {version}, written by a newer version of this program, which knows up \
                 to {}",
                MIGRATIONS.len()
            ),
            Self::Sqlite(error) => error.fmt(f),
        }
    }
}

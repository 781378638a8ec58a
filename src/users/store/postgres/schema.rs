//! What is in the database, and how an older schema becomes a newer one.

use deadpool_postgres::Object;
use tokio_postgres::{Error, Row};

use super::{Found, StoreError, error};

/// How the schema came about, as for SQLite: an entry that was released is never changed.
const MIGRATIONS: &[&str] = &[
    "CREATE TABLE users (
        id              uuid PRIMARY KEY,
        name            text NOT NULL,
        email           text NOT NULL,
        created_seconds bigint NOT NULL,   -- since 1970
        created_nanos   integer NOT NULL,  -- which timestamptz does not have
        status          smallint NOT NULL  -- 0 active, 1 inactive, 2 suspended
    );
    -- One row, locked by whoever creates users: the order of commits is that of ids.
    CREATE TABLE user_sequence (
        single boolean PRIMARY KEY DEFAULT true CHECK (single),
        newest uuid,
        total  bigint NOT NULL
    );
    INSERT INTO user_sequence (total) VALUES (0);",
    // What was created with a key, for a day. Nothing here says who it was.
    "CREATE TABLE idempotency_keys (
        principal       text NOT NULL,
        key             text NOT NULL,
        fingerprint     bytea NOT NULL,    -- of the name and the address
        user_id         uuid NOT NULL,
        created_seconds bigint NOT NULL,   -- of the user
        created_nanos   integer NOT NULL,
        PRIMARY KEY (principal, key)
    );
    CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_seconds);",
    // The same of streams: how many users are stored, whether there are no more, and their ids.
    "ALTER TABLE idempotency_keys ADD COLUMN users bigint;  -- none, if it is no stream
    ALTER TABLE idempotency_keys ADD COLUMN ended boolean;
    CREATE TABLE idempotency_parts (
        principal       text NOT NULL,
        key             text NOT NULL,
        first           bigint NOT NULL,   -- how many users come before
        ids             uuid[] NOT NULL,
        PRIMARY KEY (principal, key, first),
        FOREIGN KEY (principal, key) REFERENCES idempotency_keys ON DELETE CASCADE
    );",
];

/// Servers that start at the same time take turns: "user" in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1970496882)";

/// Makes the schema one of this version, in one step.
pub(super) async fn migrate(client: &mut Object) -> Result<(), StoreError> {
    let found = try_migrate(client).await.map_err(|error| error::of_call(&error))?;
    known(found).map(drop)
}

/// What there is to migrate, which it leaves as it is.
pub(super) async fn inspect(client: &Object) -> Result<Found, StoreError> {
    let ask = async {
        let is_read_only = "SELECT current_setting('transaction_read_only')::boolean";
        let is_read_only = client.query_one(is_read_only, &[]).await?.get(0);
        Ok((is_read_only, version(client).await?))
    };
    match ask.await.map_err(|error| error::of_call(&error))? {
        (true, _) => Err(StoreError::unavailable("the database is read-only")),
        (false, version) => known(version),
    }
}

/// How many migrations the database has seen.
async fn version(client: &Object) -> Result<usize, Error> {
    let is_there = "SELECT to_regclass('user_schema') IS NOT NULL";
    if client.query_one(is_there, &[]).await?.get(0) {
        Ok(number(client.query_opt(NEWEST, &[]).await?))
    } else {
        Ok(0)
    }
}

const NEWEST: &str = "SELECT max(version) FROM user_schema";

fn number(newest: Option<Row>) -> usize {
    let version = newest.and_then(|row| row.get::<_, Option<i32>>(0)).unwrap_or(0);
    usize::try_from(version).unwrap_or(usize::MAX)
}

/// # Errors
/// That it is a newer one.
fn known(version: usize) -> Result<Found, StoreError> {
    if version <= MIGRATIONS.len() {
        return Ok(Found::of(version, MIGRATIONS.len()));
    }
    Err(StoreError::internal(format!(
        "it has schema {version}, written by a newer version of this program, which knows up to {}",
        MIGRATIONS.len()
    )))
}

/// Gives the version that was found.
async fn try_migrate(client: &mut Object) -> Result<usize, Error> {
    let transaction = client.transaction().await?;
    let versions = "CREATE TABLE IF NOT EXISTS user_schema (version integer NOT NULL)";
    transaction.batch_execute(LOCK).await?;
    transaction.batch_execute(versions).await?;
    let found = number(transaction.query_opt(NEWEST, &[]).await?);
    if found < MIGRATIONS.len() {
        for step in &MIGRATIONS[found..] {
            transaction.batch_execute(step).await?;
        }
        let version = MIGRATIONS.len() as i32;
        transaction.execute("INSERT INTO user_schema VALUES ($1)", &[&version]).await?;
    }
    transaction.commit().await?;
    Ok(found)
}

//! The schema of the database, and its migrations.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Row};

use super::connection::Connection;
use super::{Found, StoreError, error};

/// The migrations, in order. A released entry never changes, because databases have applied it.
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
    // The creations of idempotency keys, for a day. It has no personal data.
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
    // Keys of streams: the number of stored users, whether the stream is complete, and the ids.
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
    // The order of users is that of their insertion, with any ids. Triggers maintain the order and the number of
    // users for all programs that insert or delete rows. They take the same lock as creations. The columns that
    // older servers read and write do not change.
    "ALTER TABLE users ADD COLUMN place bigint;  -- none until the statement ends
    ALTER TABLE user_sequence ADD COLUMN last_place bigint NOT NULL DEFAULT 0;
    ALTER TABLE user_sequence ADD COLUMN present    bigint NOT NULL DEFAULT 0;  -- how many users
    -- Users that were listed so far keep their order.
    UPDATE users SET place = ordered.place FROM (
        SELECT id, row_number() OVER (ORDER BY is_hidden, CASE WHEN is_hidden THEN created_seconds END,
            CASE WHEN is_hidden THEN created_nanos END, id) AS place
        FROM (SELECT users.*, coalesce(id > newest, true) AS is_hidden FROM users, user_sequence) AS all_users
    ) AS ordered WHERE users.id = ordered.id;
    UPDATE user_sequence SET (last_place, present) = (SELECT count(*), count(*) FROM users);
    CREATE UNIQUE INDEX users_by_place ON users (place);

    CREATE FUNCTION users_came() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    DECLARE
        how_many bigint;
        without_place bigint;
        highest bigint;
    BEGIN
        SELECT count(*), count(*) FILTER (WHERE place IS NULL), max(place)
            INTO how_many, without_place, highest FROM came;
        IF how_many = 0 THEN
            RETURN NULL;
        END IF;
        UPDATE user_sequence SET present = present + how_many,
            last_place = greatest(last_place, highest) + without_place
            RETURNING last_place - without_place INTO highest;
        IF without_place > 0 THEN
            UPDATE users SET place = highest + ordered.number FROM (
                SELECT id, row_number() OVER (ORDER BY created_seconds, created_nanos, id) AS number
                FROM came WHERE place IS NULL
            ) AS ordered WHERE users.id = ordered.id;
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER users_came AFTER INSERT ON users REFERENCING NEW TABLE AS came
        FOR EACH STATEMENT EXECUTE PROCEDURE users_came();

    CREATE FUNCTION users_went() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            UPDATE user_sequence SET present = 0;
        ELSE
            UPDATE user_sequence SET present = present - (SELECT count(*) FROM went);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER users_went AFTER DELETE ON users REFERENCING OLD TABLE AS went
        FOR EACH STATEMENT EXECUTE PROCEDURE users_went();
    CREATE TRIGGER all_users_went AFTER TRUNCATE ON users
        FOR EACH STATEMENT EXECUTE PROCEDURE users_went();",
];

/// The privileges of the serving role.
const RIGHTS: &[(&str, &[&str])] = &[
    ("users", &["SELECT", "INSERT", "UPDATE"]),
    ("user_sequence", &["SELECT", "UPDATE"]),
    ("idempotency_keys", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("idempotency_parts", &["SELECT", "INSERT"]),
];

const GRANT: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON users, user_sequence, idempotency_keys, \
     idempotency_parts, user_schema";

/// The first statements of a migration. Servers that start at the same time take turns: the lock number is "user" in
/// ASCII. There is no time limit, because a migration may rewrite a large table.
const PREPARE: &str = "SET LOCAL statement_timeout = 0;
    SET LOCAL lock_timeout = 0;
    SELECT pg_advisory_xact_lock(1970496882);
    SET LOCAL lock_timeout = 5000;
    CREATE TABLE IF NOT EXISTS user_schema (version integer NOT NULL)";

/// Creates or migrates the schema in one transaction.
pub(super) async fn migrate(connection: &Connection) -> Result<(), StoreError> {
    let migrated = try_migrate(connection).await;
    if migrated.is_err() {
        // If the rollback fails, the connection is lost, and its transaction with it.
        let _ = connection.rollback().await;
    }
    known(migrated.map_err(|error| error::of_call(&error))?).map(drop)
}

/// Returns the version before the migration.
async fn try_migrate(connection: &Connection) -> Result<usize, Error> {
    connection.begin().await?;
    connection.execute(PREPARE).await?;
    let found = newest(&connection.run(NEWEST, &[]).await?);
    if found < MIGRATIONS.len() {
        for step in &MIGRATIONS[found..] {
            connection.execute(step).await?;
        }
        let version = MIGRATIONS.len() as i32;
        let insert = "INSERT INTO user_schema VALUES ($1)";
        connection.run(insert, &[(&version, Type::INT4)]).await?;
    }
    connection.commit().await?;
    Ok(found)
}

/// The state of the schema, for the serving role, without any change.
///
/// # Errors
/// Every error that a start, with its migration, would have.
pub(super) async fn inspect(connection: &Connection) -> Result<Found, StoreError> {
    let found = inspect_for_owner(connection).await?;
    if found.would_change() {
        return Ok(found);
    }
    let lacking = lacking(connection, found == Found::ReadOnly).await;
    match lacking.map_err(|error| error::of_call(&error))? {
        None => Ok(found),
        Some(lacking) => Err(StoreError::internal(lacking)),
    }
}

/// As [`inspect`], for a role that only creates the tables.
pub(super) async fn inspect_for_owner(connection: &Connection) -> Result<Found, StoreError> {
    let version = version(connection).await.map_err(|error| match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            StoreError::internal(format!("{}: {GRANT} TO the serving role", error::text(&error)))
        }
        _ => error::of_call(&error),
    })?;
    let found = known(version)?;
    if !connection.can_write() {
        return match found {
            Found::Current => Ok(Found::ReadOnly),
            _ => Err(StoreError::unavailable(
                "the database is read-only, and its tables need a migration",
            )),
        };
    }
    if found.would_change() {
        let obstacle = obstacle(connection, version).await;
        if let Some(obstacle) = obstacle.map_err(|error| error::of_call(&error))? {
            return Err(StoreError::internal(obstacle));
        }
    }
    Ok(found)
}

const NEWEST: &str = "SELECT max(version)::integer FROM user_schema";

/// The number of migrations that the database has applied.
async fn version(connection: &Connection) -> Result<usize, Error> {
    let is_there = "SELECT to_regclass('user_schema') IS NOT NULL";
    match flag(&connection.query(is_there, &[]).await?, 0) {
        true => Ok(newest(&connection.query(NEWEST, &[]).await?)),
        false => Ok(0),
    }
}

fn newest(rows: &[Row]) -> usize {
    let version = rows.first().and_then(|row| row.get::<_, Option<i32>>(0)).unwrap_or(0);
    usize::try_from(version).unwrap_or(usize::MAX)
}

/// The state for a number of applied migrations.
///
/// # Errors
/// The version is newer than this program.
fn known(version: usize) -> Result<Found, StoreError> {
    if version <= MIGRATIONS.len() {
        return Ok(Found::of(version, MIGRATIONS.len()));
    }
    Err(StoreError::internal(format!(
        "the database has schema version {version} of a newer program; this version knows up to {}",
        MIGRATIONS.len()
    )))
}

/// Why this role cannot create or migrate the tables.
async fn obstacle(connection: &Connection, version: usize) -> Result<Option<String>, Error> {
    let rows = connection
        .query(
            "SELECT current_user::text, current_schema()::text,
                coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
                (SELECT coalesce(bool_and(pg_has_role(relowner, 'USAGE')), true) FROM pg_class
                WHERE oid IN (to_regclass('users'), to_regclass('user_sequence')))",
            &[],
        )
        .await?;
    let text = |column| rows.first().and_then(|row| row.get::<_, Option<&str>>(column));
    let (role, schema) = (text(0).unwrap_or_default(), text(1));
    Ok(match schema {
        None => Some(format!(
            "role {role} has no usable schema in its search_path: GRANT USAGE ON SCHEMA ... TO {role}, or ALTER \
             ROLE {role} SET search_path = ..."
        )),
        Some(schema) if !flag(&rows, 2) => Some(format!(
            "the tables need a migration, and role {role} may not create tables in schema {schema}: run \
             user-server migrate as its owner, or GRANT CREATE ON SCHEMA {schema} TO {role}"
        )),
        Some(_) if version > 0 && !flag(&rows, 3) => Some(format!(
            "the tables need a migration, and role {role} does not own them: run user-server migrate as \
             their owner"
        )),
        Some(_) => None,
    })
}

/// The privileges that this role lacks, and the statement that grants them.
async fn lacking(connection: &Connection, read_only: bool) -> Result<Option<String>, Error> {
    let rights =
        RIGHTS.iter().flat_map(|(table, rights)| rights.iter().map(move |it| (*table, *it)));
    let rights = rights.filter(|(_, right)| !read_only || *right == "SELECT");
    let (tables, rights): (Vec<&str>, Vec<&str>) = rights.unzip();
    let rows = connection
        .query(
            "SELECT current_user::text, right_ || ' on ' || table_
                FROM unnest($1::text[], $2::text[]) AS wanted (table_, right_)
                WHERE has_table_privilege(to_regclass(table_), right_) IS NOT TRUE",
            &[(&tables, Type::TEXT_ARRAY), (&rights, Type::TEXT_ARRAY)],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let role: &str = row.get(0);
    let lacking: Vec<&str> = rows.iter().map(|row| row.get(1)).collect();
    Ok(Some(format!("role {role} lacks {}: {GRANT} TO {role}", lacking.join(", "))))
}

fn flag(rows: &[Row], column: usize) -> bool {
    rows.first().is_some_and(|row| row.get(column))
}

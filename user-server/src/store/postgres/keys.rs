//! Idempotency keys in PostgreSQL.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::connection::{Connection, Value};
use super::error::Fault;
use super::{
    IdempotencyKey, Known, Part, Progress, Remembered, StoreError, error, forgotten, rows,
};
use crate::domain::{NewUser, Timestamp, User, UserId};

/// The creations of the keys in one transaction, before and after it.
pub(super) struct Keys {
    now: Timestamp,
    known: HashMap<IdempotencyKey, Remembered>,
    /// Stored keys that have expired.
    expired: Vec<IdempotencyKey>,
    /// The keys of new creations, each with its first user.
    changed: HashMap<IdempotencyKey, Uuid>,
    /// New parts of streams: the key, the number of users before the part, and the ids of its users.
    parts: Vec<(IdempotencyKey, usize, Vec<Uuid>)>,
}

impl Keys {
    /// Reads the creations of these keys.
    pub(super) async fn recall(
        transaction: &Connection,
        now: Timestamp,
        keys: impl Iterator<Item = &IdempotencyKey>,
    ) -> Result<Self, Fault> {
        let mut recalled = Self {
            now,
            known: HashMap::new(),
            expired: Vec::new(),
            changed: HashMap::new(),
            parts: Vec::new(),
        };
        let (principals, keys) = names(keys);
        if keys.is_empty() {
            return Ok(recalled);
        }
        let sql = "SELECT fingerprint, user_id, created_seconds, created_nanos, users, ended,
                principal, key
            FROM idempotency_keys
            WHERE (principal, key) IN (SELECT * FROM unnest($1::text[], $2::text[]))";
        for row in &transaction
            .run(sql, &[(&principals, Type::TEXT_ARRAY), (&keys, Type::TEXT_ARRAY)])
            .await?
        {
            let key = IdempotencyKey { principal: text(row, 6)?, key: text(row, 7)? };
            let (remembered, second) = rows::remembered(row)?;
            if second <= forgotten(now) {
                recalled.expired.push(key);
            } else {
                recalled.known.insert(key, remembered);
            }
        }
        Ok(recalled)
    }

    /// The first answer for this user, if its key was used before.
    pub(super) fn answer(
        &self,
        key: &IdempotencyKey,
        user: &NewUser,
    ) -> Option<Result<User, StoreError>> {
        self.known.get(key).map(|remembered| remembered.answer(user.clone()))
    }

    pub(super) fn progress(&self, key: &IdempotencyKey) -> Result<Option<&Progress>, StoreError> {
        self.known.get(key).map(Remembered::stream).transpose()
    }

    /// The users of a stream that are stored, or will be with this transaction.
    pub(super) async fn known(
        &self,
        transaction: &Connection,
        key: &IdempotencyKey,
    ) -> Result<Known, Fault> {
        let progress = self.progress(key)?;
        let mut ids = Vec::new();
        if progress.is_some() {
            let sql = "SELECT ids FROM idempotency_parts WHERE principal = $1 AND key = $2
                ORDER BY first";
            let values: [Value<'_>; 2] = [(&key.principal, Type::TEXT), (&key.key, Type::TEXT)];
            for row in &transaction.run(sql, &values).await? {
                ids.extend(rows::ids(row)?);
            }
            for (_, _, planned) in self.parts.iter().filter(|(of, ..)| of == key) {
                ids.extend(planned.iter().copied().map(UserId::from));
            }
        }
        Ok(Known::new(ids, progress))
    }

    /// Remembers the creation of a key. `first` is its first user.
    pub(super) fn remember(&mut self, key: &IdempotencyKey, creation: Remembered, first: Uuid) {
        self.known.insert(key.clone(), creation);
        self.changed.entry(key.clone()).or_insert(first);
    }

    /// Remembers another part of a stream.
    pub(super) fn extend(&mut self, part: &Part, ids: Vec<Uuid>) {
        let before = part.from.users();
        if before == 0 && ids.is_empty() {
            return;
        }
        // Only the first user of the first part is stored.
        let first = ids.first().copied().unwrap_or_default();
        self.remember(&part.key, Remembered::Stream(part.progress()), first);
        if !ids.is_empty() {
            self.parts.push((part.key.clone(), before, ids));
        }
    }

    /// Stores the keys, and removes two expired keys for each.
    pub(super) async fn store(&self, transaction: &Connection) -> Result<(), Error> {
        if self.changed.is_empty() {
            return Ok(());
        }
        self.forget(transaction).await?;
        let sql =
            "INSERT INTO idempotency_keys (principal, key, fingerprint, user_id, users, ended,
                created_seconds, created_nanos)
            SELECT created.*, $7::bigint, $8::integer
            FROM unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[], $5::bigint[],
                $6::boolean[]) AS created
            ON CONFLICT (principal, key) DO UPDATE SET
                fingerprint = excluded.fingerprint, users = excluded.users, ended = excluded.ended,
                created_seconds = excluded.created_seconds, created_nanos = excluded.created_nanos";
        let (principals, keys) = names(self.changed.keys());
        let first: Vec<_> = self.changed.values().collect();
        let mut fingerprints = Vec::new();
        let mut users = Vec::new();
        let mut ended = Vec::new();
        for key in self.changed.keys() {
            let (fingerprint, progress) = match &self.known[key] {
                Remembered::One(creation) => (&creation.fingerprint[..], None),
                Remembered::Stream(progress) => (&progress.mark.digest[..], Some(progress)),
            };
            fingerprints.push(fingerprint);
            users.push(progress.map(|it| it.mark.users as i64));
            ended.push(progress.map(|it| it.ended));
        }
        let (seconds, nanos) = (self.now.seconds(), self.now.nanos());
        let values: [Value<'_>; 8] = [
            (&principals, Type::TEXT_ARRAY),
            (&keys, Type::TEXT_ARRAY),
            (&fingerprints, Type::BYTEA_ARRAY),
            (&first, Type::UUID_ARRAY),
            (&users, Type::INT8_ARRAY),
            (&ended, Type::BOOL_ARRAY),
            (&seconds, Type::INT8),
            (&nanos, Type::INT4),
        ];
        transaction.run(sql, &values).await?;
        let sql = "INSERT INTO idempotency_parts (principal, key, first, ids)
            VALUES ($1, $2, $3, $4)";
        for (key, before, ids) in &self.parts {
            let before = *before as i64;
            let values: [Value<'_>; 4] = [
                (&key.principal, Type::TEXT),
                (&key.key, Type::TEXT),
                (&before, Type::INT8),
                (ids, Type::UUID_ARRAY),
            ];
            transaction.run(sql, &values).await?;
        }
        Ok(())
    }

    async fn forget(&self, transaction: &Connection) -> Result<(), Error> {
        let before = forgotten(self.now);
        if !self.expired.is_empty() {
            let sql = "DELETE FROM idempotency_keys
                WHERE (principal, key) IN (SELECT * FROM unnest($1::text[], $2::text[]))";
            let (principals, keys) = names(self.expired.iter());
            transaction
                .run(sql, &[(&principals, Type::TEXT_ARRAY), (&keys, Type::TEXT_ARRAY)])
                .await?;
        }
        let sql = "DELETE FROM idempotency_keys WHERE (principal, key) IN (
            SELECT principal, key FROM idempotency_keys WHERE created_seconds <= $1 LIMIT $2)";
        let count = 2 * self.changed.len() as i64;
        transaction.run(sql, &[(&before, Type::INT8), (&count, Type::INT8)]).await?;
        Ok(())
    }
}

/// The principals and the keys, as two lists.
fn names<'a>(keys: impl Iterator<Item = &'a IdempotencyKey>) -> (Vec<&'a str>, Vec<&'a str>) {
    keys.map(|key| (&*key.principal, &*key.key)).unzip()
}

fn text(row: &Row, column: usize) -> Result<String, StoreError> {
    row.try_get(column).map_err(|error| error::of_call(&error))
}

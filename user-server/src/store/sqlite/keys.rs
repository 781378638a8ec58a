//! Idempotency keys in SQLite.

use rusqlite::{Connection, OptionalExtension, Statement, params};
use uuid::Uuid;

use super::error::Fault;
use super::rows::{self, KEY_COLUMNS};
use super::{IdempotencyKey, Part, Remembered, forgotten};
use crate::domain::{Timestamp, UserId};

/// The statements. All of them run inside a transaction.
pub(super) struct Keys<'c> {
    recall: Statement<'c>,
    remember: Statement<'c>,
    expire: Statement<'c>,
    forget: Statement<'c>,
    ids: Statement<'c>,
    add_ids: Statement<'c>,
}

impl<'c> Keys<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        // The parts of a stream are removed with its key.
        connection.pragma_update(None, "foreign_keys", true)?;
        let recall =
            format!("SELECT {KEY_COLUMNS} FROM idempotency_keys WHERE principal = ?1 AND key = ?2");
        // An update, because replacing the row would remove the parts.
        let remember = format!(
            "INSERT INTO idempotency_keys (principal, key, {KEY_COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET fingerprint = ?3, created_seconds = ?5, created_nanos = ?6,
                users = ?7, ended = ?8"
        );
        let expire = "DELETE FROM idempotency_keys WHERE principal = ?1 AND key = ?2";
        // Two for each new key: enough to remove all in time, and few enough that no call waits for long.
        let forget = "DELETE FROM idempotency_keys WHERE (principal, key) IN (
             SELECT principal, key FROM idempotency_keys WHERE created_seconds <= ?1 LIMIT 2)";
        let ids = "SELECT ids FROM idempotency_parts WHERE principal = ?1 AND key = ?2
             ORDER BY first";
        let add_ids = "INSERT INTO idempotency_parts (principal, key, first, ids)
             VALUES (?1, ?2, ?3, ?4)";
        Ok(Self {
            recall: connection.prepare(&recall)?,
            remember: connection.prepare(&remember)?,
            expire: connection.prepare(expire)?,
            forget: connection.prepare(forget)?,
            ids: connection.prepare(ids)?,
            add_ids: connection.prepare(add_ids)?,
        })
    }

    /// The creation of a key, unless the key has expired.
    pub(super) fn recall(
        &mut self,
        key: &IdempotencyKey,
        now: Timestamp,
    ) -> Result<Option<Remembered>, Fault> {
        let names = params![key.principal, key.key];
        let found = self.recall.query_row(names, |row| Ok(rows::remembered(row))).optional()?;
        match found.transpose().map_err(Fault::Call)? {
            Some((_, second)) if second <= forgotten(now) => {
                self.expire.execute(names)?;
                Ok(None)
            }
            found => Ok(found.map(|(remembered, _)| remembered)),
        }
    }

    /// Remembers the creation of a key: one user, or a stream whose first user is `first`.
    pub(super) fn remember(
        &mut self,
        key: &IdempotencyKey,
        creation: &Remembered,
        first: UserId,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        self.forget.execute([forgotten(now)])?;
        let (fingerprint, users, ended) = match creation {
            Remembered::One(user) => (user.fingerprint, None, None),
            Remembered::Stream(it) => (it.mark.digest, Some(it.mark.users as i64), Some(it.ended)),
        };
        self.remember.execute(params![
            key.principal,
            key.key,
            fingerprint,
            rows::key(&first),
            now.seconds(),
            now.nanos(),
            users,
            ended,
        ])?;
        Ok(())
    }

    /// Remembers another part of a stream.
    pub(super) fn extend(
        &mut self,
        part: &Part,
        ids: &[UserId],
        now: Timestamp,
    ) -> Result<(), Fault> {
        let before = part.from.users();
        if before == 0 && ids.is_empty() {
            return Ok(());
        }
        // Only the first user of the first part is stored.
        let first = ids.first().copied().unwrap_or(Uuid::nil().into());
        self.remember(&part.key, &Remembered::Stream(part.progress()), first, now)?;
        if !ids.is_empty() {
            let ids: Vec<u8> = ids.iter().flat_map(rows::key).collect();
            let IdempotencyKey { principal, key } = &part.key;
            self.add_ids.execute(params![principal, key, before as i64, ids])?;
        }
        Ok(())
    }

    /// The ids of all users of a stream.
    pub(super) fn ids(&mut self, key: &IdempotencyKey) -> Result<Vec<UserId>, Fault> {
        let mut parts = self.ids.query(params![key.principal, key.key])?;
        let mut all = Vec::new();
        while let Some(row) = parts.next()? {
            all.extend(rows::ids(row).map_err(Fault::Call)?);
        }
        Ok(all)
    }
}

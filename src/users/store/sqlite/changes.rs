//! Changes that are committed together.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Statement, params};

use super::rows::{self, COLUMNS};
use super::{Creation, Extent, IdSequence, IdempotencyKey, StoreError, forgotten, schema};
use crate::users::domain::{NewUser, Timestamp, User, UserChange, UserId};

/// A transaction that begins with its first change, and the next one when it is over.
pub(super) struct Changes<'c> {
    connection: &'c Connection,
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
    insert: Statement<'c>,
    update: Statement<'c>,
    recall: Statement<'c>,
    remember: Statement<'c>,
    forget: Statement<'c>,
    ids: IdSequence,
    /// As of the last commit.
    committed: Extent,
    /// As it is to be after the next.
    extent: Extent,
}

/// Why there is no change.
pub(super) enum Fault {
    /// The transaction is lost, with all that is in it.
    Transaction(rusqlite::Error),
    /// It concerns the one call only.
    Call(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Transaction(error)
    }
}

impl<'c> Changes<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        ids: IdSequence,
        committed: Extent,
    ) -> rusqlite::Result<Self> {
        let insert = format!("INSERT INTO users ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
        let update = format!(
            "UPDATE users SET name = coalesce(?2, name), email = coalesce(?3, email)
             WHERE id = ?1 RETURNING {COLUMNS}"
        );
        let recall = "SELECT fingerprint, user_id, created_seconds, created_nanos
             FROM idempotency_keys
             WHERE principal = ?1 AND key = ?2 AND created_seconds > ?3";
        let remember = "INSERT OR REPLACE INTO idempotency_keys
             (principal, key, fingerprint, user_id, created_seconds, created_nanos)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        // Two for each that is new: so they are gone in time, and no call has to wait for many.
        let forget = "DELETE FROM idempotency_keys WHERE (principal, key) IN (
             SELECT principal, key FROM idempotency_keys WHERE created_seconds <= ?1 LIMIT 2)";
        Ok(Self {
            connection,
            // Not to find in the middle of it that somebody else writes.
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            rollback: connection.prepare("ROLLBACK")?,
            insert: connection.prepare(&insert)?,
            update: connection.prepare(&update)?,
            recall: connection.prepare(recall)?,
            remember: connection.prepare(remember)?,
            forget: connection.prepare(forget)?,
            ids,
            committed,
            extent: committed,
        })
    }

    pub(super) fn create(&mut self, user: NewUser) -> Result<Arc<User>, Fault> {
        self.begin()?;
        Ok(Arc::new(self.insert(user, Timestamp::now())?))
    }

    pub(super) fn create_once(
        &mut self,
        key: &IdempotencyKey,
        user: NewUser,
    ) -> Result<Arc<User>, Fault> {
        self.begin()?;
        let now = Timestamp::now();
        let before = forgotten(now);
        let recalled = self
            .recall
            .query_row(params![key.principal, key.key, before], |row| Ok(rows::creation(row)));
        if let Some(creation) = recalled.optional()? {
            let answer = creation.map_err(Fault::Call)?.answer(user);
            return answer.map(Arc::new).ok_or_else(|| Fault::Call(StoreError::key_reused()));
        }
        self.forget.execute([before])?;
        let user = self.insert(user, now)?;
        let creation = Creation::of(&user);
        self.remember.execute(params![
            key.principal,
            key.key,
            creation.fingerprint,
            rows::key(&user.id),
            now.seconds(),
            now.nanos(),
        ])?;
        Ok(Arc::new(user))
    }

    pub(super) fn create_all(&mut self, users: Vec<NewUser>) -> Result<Vec<UserId>, Fault> {
        self.begin()?;
        let now = Timestamp::now();
        let ids = users.into_iter().map(|user| Ok(self.insert(user, now)?.id));
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    fn insert(&mut self, user: NewUser, now: Timestamp) -> rusqlite::Result<User> {
        let user = user.into_user(self.ids.next(now), now);
        self.insert.execute(params![
            rows::key(&user.id),
            user.name,
            user.email,
            now.seconds(),
            now.nanos(),
            rows::status(user.status),
        ])?;
        self.extent = Extent { total: self.extent.total + 1, newest: Some(user.id) };
        Ok(user)
    }

    pub(super) fn update(
        &mut self,
        id: UserId,
        change: &UserChange,
    ) -> Result<Option<Arc<User>>, Fault> {
        self.begin()?;
        let mut found =
            self.update.query(params![rows::key(&id), change.name(), change.email()])?;
        let user = found.next()?.map(|row| Ok(Arc::new(rows::read(row)?.into_owned())));
        user.transpose().map_err(Fault::Call)
    }

    /// Writes the head of the file as it is.
    pub(super) fn nothing(&mut self) -> rusqlite::Result<()> {
        self.begin()?;
        schema::rewrite(self.connection)
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        if self.connection.is_autocommit() {
            self.begin.execute([])?;
        }
        Ok(())
    }

    /// Ends the transaction: commits it, if all is well so far, or else takes back what it has
    /// changed.
    pub(super) fn commit(&mut self, outcome: rusqlite::Result<()>) -> rusqlite::Result<Extent> {
        let committed = outcome.and_then(|()| match self.connection.is_autocommit() {
            true => Ok(()), // Nobody has waited for it: it has not even begun.
            false => self.commit.execute([]).map(drop),
        });
        match committed {
            Ok(()) => self.committed = self.extent,
            Err(_) => self.extent = self.committed,
        }
        // SQLite itself has rolled back after some errors.
        if committed.is_err() && !self.connection.is_autocommit() {
            self.rollback.execute([])?;
        }
        committed.map(|()| self.committed)
    }
}

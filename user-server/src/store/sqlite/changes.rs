//! The changes of one transaction.

use std::sync::Arc;

use rusqlite::{Connection, Statement, params};

use super::error::Fault;
use super::extent;
use super::keys::Keys;
use super::rows::{self, COLUMNS};
use super::{
    Creation, Extent, IdSequence, IdempotencyKey, Known, Part, Remembered, StoreError, Stored,
    error, notify, schema,
};
use crate::domain::{NewUser, Timestamp, User, UserChange, UserId};
use crate::store::ChangeListener;

/// The current transaction. It begins with its first change. After it, the next one begins.
pub(super) struct Changes<'c> {
    connection: &'c Connection,
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
    insert: Statement<'c>,
    update: Statement<'c>,
    keys: Keys<'c>,
    data_version: Statement<'c>,
    /// A number that changes when another program commits.
    version: i64,
    ids: IdSequence,
    /// The extent after the last commit.
    committed: Extent,
    /// The extent after the current transaction.
    extent: Extent,
}

impl<'c> Changes<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        version: i64,
        committed: Extent,
    ) -> rusqlite::Result<Self> {
        let insert = format!("INSERT INTO users ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
        let update = format!(
            "UPDATE users SET name = coalesce(?2, name), email = coalesce(?3, email)
             WHERE id = ?1 RETURNING {COLUMNS}"
        );
        Ok(Self {
            connection,
            // Takes the write lock now, rather than failing in the middle of the transaction.
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            rollback: connection.prepare("ROLLBACK")?,
            insert: connection.prepare(&insert)?,
            update: connection.prepare(&update)?,
            keys: Keys::new(connection)?,
            data_version: connection.prepare(DATA_VERSION)?,
            version,
            ids: ids_above(committed),
            committed,
            extent: committed,
        })
    }

    pub(super) fn create_one(
        &mut self,
        user: NewUser,
        key: Option<&IdempotencyKey>,
        listener: Option<&ChangeListener>,
    ) -> Result<Arc<User>, Fault> {
        self.begin()?;
        let now = Timestamp::now();
        let Some(key) = key else { return Ok(Arc::new(self.insert(user, now, listener)?)) };
        if let Some(remembered) = self.keys.recall(key, now)? {
            let user = remembered.answer(user).map_err(Fault::Call)?;
            notify(listener, user.id);
            return Ok(Arc::new(user));
        }
        let user = self.insert(user, now, listener)?;
        self.keys.remember(key, &Remembered::One(Creation::of(&user)), user.id, now)?;
        Ok(Arc::new(user))
    }

    pub(super) fn create_many(
        &mut self,
        users: Vec<NewUser>,
        part: Option<&Part>,
        listener: Option<&ChangeListener>,
    ) -> Result<Stored, Fault> {
        self.begin()?;
        let now = Timestamp::now();
        let Some(part) = part else {
            return Ok(Stored::Now(self.insert_all(users, now, listener)?));
        };
        let remembered = self.keys.recall(&part.key, now)?;
        let progress = remembered.as_ref().map(Remembered::stream).transpose();
        let progress = progress.map_err(Fault::Call)?;
        if !part.follows(progress) {
            return Ok(Stored::Before(Known::new(self.keys.ids(&part.key)?, progress)));
        }
        let ids = self.insert_all(users, now, listener)?;
        self.keys.extend(part, &ids, now)?;
        Ok(Stored::Now(ids))
    }

    fn insert_all(
        &mut self,
        users: Vec<NewUser>,
        now: Timestamp,
        listener: Option<&ChangeListener>,
    ) -> rusqlite::Result<Vec<UserId>> {
        users.into_iter().map(|user| Ok(self.insert(user, now, listener)?.id)).collect()
    }

    fn insert(
        &mut self,
        user: NewUser,
        now: Timestamp,
        listener: Option<&ChangeListener>,
    ) -> rusqlite::Result<User> {
        let user = user.into_user(self.ids.next(now), now);
        notify(listener, user.id);
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

    /// Rewrites the header of the file without a change, to check that it can be written.
    pub(super) fn rewrite_header(&mut self) -> rusqlite::Result<()> {
        self.begin()?;
        schema::rewrite(self.connection)
    }

    /// Counts the users again if another program has changed the file, for example by an import.
    pub(super) fn refresh(&mut self) -> rusqlite::Result<()> {
        let version = self.data_version.query_row([], |row| row.get(0))?;
        if version != self.version {
            self.committed = extent::count(self.connection)?;
            self.version = version;
            self.extent = self.committed;
            self.ids = ids_above(self.committed);
        }
        Ok(())
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        if self.connection.is_autocommit() {
            self.begin.execute([])?;
            self.refresh()?;
        }
        Ok(())
    }

    /// Ends the transaction. It is committed if `outcome` is a success, and rolled back otherwise.
    pub(super) fn commit(&mut self, outcome: rusqlite::Result<()>) -> Result<Extent, Failure> {
        let committed = match outcome {
            Err(error) => Err(Failure { error, in_commit: false }),
            Ok(()) if self.connection.is_autocommit() => Ok(()), // It has not begun.
            Ok(()) => match self.commit.execute([]) {
                Ok(_) => Ok(()),
                Err(error) => Err(Failure { error, in_commit: true }),
            },
        };
        match committed {
            Ok(()) => self.committed = self.extent,
            Err(_) => self.extent = self.committed,
        }
        // After some errors SQLite has rolled back already.
        if committed.is_err() && !self.connection.is_autocommit() {
            // The error of the commit is more important than that of the rollback.
            let _ = self.rollback.execute([]);
        }
        committed.map(|()| self.committed)
    }
}

/// Why a transaction was not committed, as far as that is known.
pub(super) struct Failure {
    pub(super) error: rusqlite::Error,
    in_commit: bool,
}

impl Failure {
    /// The error for the calls. If the disk does not confirm the commit, the whole transaction may be in the log, where
    /// the next start finds it. The result is then unknown. A transaction that did not fit lacks its end in the log, so
    /// it is not stored.
    pub(super) fn of_call(&self) -> StoreError {
        match error::of_call(&self.error) {
            error if error.is_unavailable() && self.in_commit => error.into_unknown(),
            error => error,
        }
    }
}

const DATA_VERSION: &str = "PRAGMA data_version";

/// A number that changes when another connection commits, never when this one does.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row(DATA_VERSION, [], |row| row.get(0))
}

fn ids_above(committed: Extent) -> IdSequence {
    committed.newest.map_or_else(IdSequence::new, IdSequence::resume)
}

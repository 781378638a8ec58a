//! Changes that are committed together.

use std::sync::Arc;

use rusqlite::{Connection, Statement, params};

use super::keys::Keys;
use super::rows::{self, COLUMNS};
use super::{
    Creation, Extent, IdSequence, IdempotencyKey, Known, Part, Remembered, StoreError, Stored,
    error, notify, schema, writer,
};
use crate::domain::{NewUser, Timestamp, User, UserChange, UserId};
use crate::store::ChangeListener;

/// A transaction that begins with its first change, and the next one when it is over.
pub(super) struct Changes<'c> {
    connection: &'c Connection,
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
    insert: Statement<'c>,
    update: Statement<'c>,
    keys: Keys<'c>,
    data_version: Statement<'c>,
    /// Changes when another program has committed something.
    version: i64,
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
            // Not to find in the middle of it that somebody else writes.
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

    /// Writes the head of the file as it is.
    pub(super) fn nothing(&mut self) -> rusqlite::Result<()> {
        self.begin()?;
        schema::rewrite(self.connection)
    }

    /// Counts the users again if another program has changed the file, such as one that has brought users in.
    pub(super) fn look(&mut self) -> rusqlite::Result<()> {
        let version = self.data_version.query_row([], |row| row.get(0))?;
        if version != self.version {
            self.committed = writer::extent(self.connection)?;
            (self.version, self.extent) = (version, self.committed);
            self.ids = ids_above(self.committed);
        }
        Ok(())
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        if self.connection.is_autocommit() {
            self.begin.execute([])?;
            self.look()?;
        }
        Ok(())
    }

    /// Ends the transaction: commits it, if all is well so far, or else takes back what it has
    /// changed.
    pub(super) fn commit(&mut self, outcome: rusqlite::Result<()>) -> Result<Extent, Failure> {
        let committed = match outcome {
            Err(error) => Err(Failure { error, in_commit: false }),
            Ok(()) if self.connection.is_autocommit() => Ok(()), // It has not even begun.
            Ok(()) => match self.commit.execute([]) {
                Ok(_) => Ok(()),
                Err(error) => Err(Failure { error, in_commit: true }),
            },
        };
        match committed {
            Ok(()) => self.committed = self.extent,
            Err(_) => self.extent = self.committed,
        }
        // SQLite itself has rolled back after some errors.
        if committed.is_err() && !self.connection.is_autocommit() {
            // What the commit says counts for more.
            let _ = self.rollback.execute([]);
        }
        committed.map(|()| self.committed)
    }
}

/// Why a transaction was not committed, as far as is known.
pub(super) struct Failure {
    pub(super) error: rusqlite::Error,
    in_commit: bool,
}

impl Failure {
    /// Whoever waits for a change learns that it was not stored, or that it may be: all of it may be
    /// in the log when the disk fails to confirm it, for the next start to find there. What has no room
    /// lacks its end.
    pub(super) fn of_call(&self) -> StoreError {
        match error::of_call(&self.error) {
            error if error.is_unavailable() && self.in_commit => error.into_unknown(),
            error => error,
        }
    }
}

const DATA_VERSION: &str = "PRAGMA data_version";

/// A number that changes when another connection commits, never with what this one does.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row(DATA_VERSION, [], |row| row.get(0))
}

fn ids_above(committed: Extent) -> IdSequence {
    committed.newest.map_or_else(IdSequence::new, IdSequence::resume)
}

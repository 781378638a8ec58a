//! The thread that writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, ffi};
use uuid::Uuid;

use super::super::metrics::CommitMetrics;
use super::changes::{self, Changes, Failure, Fault};
use super::checkpoints::{self, Checkpoints, LogMetrics};
use super::file::Files;
use super::order::ISSUED;
use super::probe::Progress;
use super::turns::{Reply, Turns};
use super::{Extent, IdempotencyKey, Part, StoreError, Stored, error};
use crate::domain::{NewUser, User, UserChange, UserId};
use crate::store::ChangeListener;

/// What a call wants to change.
pub(super) enum Write {
    CreateOne(NewUser, Option<IdempotencyKey>, Option<ChangeListener>, Reply<Arc<User>>),
    CreateMany(Vec<NewUser>, Option<Part>, Option<ChangeListener>, Reply<Stored>),
    Update(UserId, UserChange, Reply<Option<Arc<User>>>),
    /// To see what another program has written.
    Look,
    /// To see whether it can be done.
    Nothing,
}

/// The thread's own.
pub(super) struct Writer {
    connection: Connection,
    files: Arc<Files>,
    /// From before the users were counted.
    version: i64,
    extent: Arc<Mutex<Extent>>,
    metrics: Metrics,
}

/// What operators learn of the writer.
#[derive(Clone)]
pub(super) struct Metrics {
    pub(super) commits: CommitMetrics,
    pub(super) log: LogMetrics,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self { commits: CommitMetrics::new(), log: LogMetrics::new() }
    }
}

impl Writer {
    /// A writer that goes on where the last one has stopped.
    pub(super) fn new(
        connection: Connection,
        files: Arc<Files>,
        metrics: Metrics,
    ) -> rusqlite::Result<Self> {
        let version = changes::data_version(&connection)?;
        let extent = extent(&connection)?;
        let extent = Arc::new(Mutex::new(extent));
        Ok(Self { connection, files, version, extent, metrics })
    }

    /// What is committed, now and later on.
    pub(super) fn extent(&self) -> Arc<Mutex<Extent>> {
        self.extent.clone()
    }

    /// Commits what comes, until the queue is closed.
    pub(super) fn run(self, mut turns: Turns<Write>, progress: &Progress) {
        let Self { mut connection, files, version, extent, metrics } = self;
        let mut committed = *extent.lock().unwrap_or_else(PoisonError::into_inner);
        let log = checkpoints::watch_log(&mut connection);
        let prepared = log.and_then(|log| {
            let changes = Changes::new(&connection, version, committed)?;
            Ok((changes, Checkpoints::new(&connection, log, metrics.log)?))
        });
        let (mut changes, mut checkpoints) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::error!(%error, "the thread cannot write users");
                return progress.end(Some(error.to_string()));
            }
        };
        while let Some(group) = turns.next_blocking() {
            progress.begin();
            let begun = Instant::now();
            let mut answers = Vec::new();
            let outcome =
                group.into_iter().try_for_each(|write| write.apply(&mut changes, &mut answers));
            let outcome = changes.commit(outcome.and_then(|()| in_place(&files)));
            if !answers.is_empty() {
                metrics.commits.seconds.observe(begun.elapsed().as_secs_f64());
            }
            if let Ok(now) = outcome {
                let created = now.total.saturating_sub(committed.total);
                if !answers.is_empty() && created > 0 {
                    metrics.commits.users.observe(created as f64);
                }
                committed = now;
                *extent.lock().unwrap_or_else(PoisonError::into_inner) = now;
            }
            for answer in answers {
                answer(outcome.as_ref().map(drop).map_err(Failure::of_call));
            }
            // Nobody waits for it but those that come now.
            checkpoints.run();
            let fault = outcome.err().and_then(|failure| fault(failure.error, &mut changes));
            progress.end(fault.map(|error| error.to_string()));
        }
    }
}

/// Or else what is committed would be gone with the next start, or another process might write as well.
fn in_place(files: &Files) -> rusqlite::Result<()> {
    files.are_in_place().map_err(|why| {
        // What SQLite itself says where it does notice.
        rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED), Some(why))
    })
}

/// Counts the users of a file, which goes through all of its pages that have some. The newest is one of
/// those with ids that were issued.
pub(super) fn extent(connection: &Connection) -> rusqlite::Result<Extent> {
    let total: i64 = connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?;
    let newest = format!("SELECT id FROM users WHERE {ISSUED} ORDER BY id DESC LIMIT 1");
    let newest = connection.query_row(&newest, [], |row| row.get::<_, [u8; 16]>(0)).optional()?;
    let newest = newest.map(|key| Uuid::from_bytes(key).into());
    Ok(Extent { total: total.unsigned_abs(), newest })
}

/// What is wrong with the file, if that is why a transaction has failed. It may be what one call alone
/// has come across, or what is too large for the room that is left.
fn fault(error: rusqlite::Error, changes: &mut Changes<'_>) -> Option<rusqlite::Error> {
    if error::of_call(&error).is_unavailable() {
        return Some(error);
    }
    let nothing = changes.nothing();
    changes.commit(nothing).err().map(|failure| failure.error)
}

/// Tells a call what has become of it, once that is known of the transaction.
type Answer = Box<dyn FnOnce(Result<(), StoreError>)>;

impl Write {
    fn apply(self, changes: &mut Changes<'_>, answers: &mut Vec<Answer>) -> rusqlite::Result<()> {
        match self {
            Self::CreateOne(user, key, listener, reply) => {
                answers.note(reply, || changes.create_one(user, key.as_ref(), listener.as_ref()))
            }
            Self::CreateMany(users, part, listener, reply) => {
                answers.note(reply, || changes.create_many(users, part.as_ref(), listener.as_ref()))
            }
            Self::Update(id, change, reply) => answers.note(reply, || changes.update(id, &change)),
            Self::Look => changes.look(),
            Self::Nothing => changes.nothing(),
        }
    }
}

trait Note {
    /// Makes a change, unless nobody waits for it any more, and notes whom to answer.
    ///
    /// # Errors
    /// What fails the transaction. The call has its answer in any case.
    fn note<T: 'static>(
        &mut self,
        reply: Reply<T>,
        change: impl FnOnce() -> Result<T, Fault>,
    ) -> rusqlite::Result<()>;
}

impl Note for Vec<Answer> {
    fn note<T: 'static>(
        &mut self,
        reply: Reply<T>,
        change: impl FnOnce() -> Result<T, Fault>,
    ) -> rusqlite::Result<()> {
        if reply.is_closed() {
            return Ok(());
        }
        let (value, outcome) = match change() {
            Ok(value) => (Ok(value), Ok(())),
            Err(Fault::Call(error)) => (Err(error), Ok(())),
            Err(Fault::Transaction(error)) => (Err(error::of_call(&error)), Err(error)),
        };
        self.push(Box::new(move |committed| {
            // That nobody waits for the answer any more is no fault.
            let _ = reply.send(committed.and(value));
        }));
        outcome
    }
}

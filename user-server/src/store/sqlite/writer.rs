//! The thread that writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::{Connection, ffi};

use super::super::metrics::CommitMetrics;
use super::changes::{self, Changes, Failure};
use super::checkpoints::{self, Checkpoints, LogMetrics};
use super::error::{self, Fault};
use super::file::Files;
use super::progress::Progress;
use super::write::Write;
use super::write_queue::{Groups, Reply};
use super::{Extent, StoreError, extent};

/// The state of the thread.
pub(super) struct Writer {
    connection: Connection,
    files: Arc<Files>,
    /// The data version before the users were counted.
    version: i64,
    extent: Arc<Mutex<Extent>>,
    metrics: Metrics,
}

/// The metrics of the writer.
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
    /// A writer that continues with the users in the file.
    pub(super) fn new(
        connection: Connection,
        files: Arc<Files>,
        metrics: Metrics,
    ) -> rusqlite::Result<Self> {
        let version = changes::data_version(&connection)?;
        let extent = extent::count(&connection)?;
        let extent = Arc::new(Mutex::new(extent));
        Ok(Self { connection, files, version, extent, metrics })
    }

    /// The committed extent. The writer updates it.
    pub(super) fn extent(&self) -> Arc<Mutex<Extent>> {
        self.extent.clone()
    }

    /// Commits changes until the queue is closed.
    pub(super) fn run(self, mut groups: Groups<Write>, progress: &Progress) {
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
                tracing::error!(%error, "the writer thread cannot prepare its statements");
                return progress.end(Some(error.to_string()));
            }
        };
        while let Some(group) = groups.next_blocking() {
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
            // After the answers: only later calls wait for it.
            checkpoints.run();
            let fault = outcome.err().and_then(|failure| fault(failure.error, &mut changes));
            progress.end(fault.map(|error| error.to_string()));
        }
    }
}

/// Fails if the files were moved or removed. The commit would be lost with the next start, or another process could
/// write too.
fn in_place(files: &Files) -> rusqlite::Result<()> {
    files.are_in_place().map_err(|error| {
        // The error of SQLite itself, if it notices.
        rusqlite::Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED),
            Some(error.to_string()),
        )
    })
}

/// The fault of the file, if that is why a transaction failed. Otherwise only one call has met damaged data, or its
/// change is too large for the remaining space.
fn fault(error: rusqlite::Error, changes: &mut Changes<'_>) -> Option<rusqlite::Error> {
    if error::of_call(&error).is_unavailable() {
        return Some(error);
    }
    let rewritten = changes.rewrite_header();
    changes.commit(rewritten).err().map(|failure| failure.error)
}

/// Answers a call with the result of the transaction.
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
            Self::Refresh => changes.refresh(),
            Self::RewriteHeader => changes.rewrite_header(),
        }
    }
}

trait Note {
    /// Makes a change, unless its caller has disconnected, and adds its answer.
    ///
    /// # Errors
    /// The transaction failed. The call gets its answer in any case.
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
            // A failure is ignored: the caller may have disconnected.
            let _ = reply.send(committed.and(value));
        }));
        outcome
    }
}

//! Users in a SQLite file: durable, without another server.
//!
//! ```text
//!  create, create_all, update ──> queue ──> one writer: BEGIN; a group; COMMIT ──> answers
//!                                                          |
//!                                        users.db, users.db-wal ── fsync, once for all of them
//!                                                          |
//!         get, scan ──> queue, get first ──> a few readers         extent: from memory
//! ```
//!
//! SQLite has one writer at a time and blocks its thread, so the store has a thread that writes. While it waits for the
//! disk, calls gather in its queue. The next transaction includes all of them, within its bounds (group commit). So the
//! cost of a wait is shared by more calls under load. Readers see committed data. The writer never blocks readers, and
//! readers never block the writer (write-ahead log). Scans never use all readers, and take turns page by page.
//!
//! Locks ensure that only one process uses the file (`lock.rs`). Another thread checks that the file can be read and
//! written (`probe.rs`).

mod changes;
mod checkpoints;
mod copy;
mod cursor;
mod error;
mod extent;
mod file;
mod keys;
mod lock;
mod probe;
mod progress;
mod read_queue;
mod reader;
mod restore;
mod rows;
mod scan;
mod schema;
mod threads;
mod write;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::Stream;
use prometheus::core::Collector;
use rusqlite::Connection;
use tokio::sync::watch;

pub use self::copy::Copied;
use self::file::{Access, Files};
use self::lock::Lock;
use self::probe::Probe;
use self::progress::Progress;
use self::reader::Readers;
use self::threads::Worker;
use self::write::Write;
use self::writer::{Metrics, Writer};
use super::availability::Availability;
use super::write_queue::{self, Reply, Size};
use super::{
    Creation, Extent, FIRST_PAGE_LEN, Found, IdSequence, IdempotencyKey, Known, Mark, PAGE_LEN,
    Packed, Page, Part, Remembered, StoreError, Stored, UserStore, forgotten, notify,
};
use crate::domain::{NewUser, User, UserChange, UserId};
use crate::store::ChangeListener;

/// The number of reader threads. Each answers tens of thousands of calls per second. With several, a page of a scan or
/// a user on the disk does not block other reads.
const READERS: usize = 4;

/// When a change is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After fsync: the change survives a power loss.
    #[default]
    Full,
    /// Once the operating system has it: the change survives a crash of the process. A power loss can lose the changes of
    /// the last seconds, but never only a part of a change.
    Relaxed,
}

/// A [`UserStore`] in a SQLite file. Its threads end when it is dropped.
pub struct SqliteStore {
    /// Dropped before the writer, because it uses the writer's queue.
    probe: Probe,
    /// Dropped before the writer: SQLite merges the log into the database when the last connection is closed.
    readers: Readers,
    writer: Worker<Write>,
    /// The committed extent. The writer updates it, so that users are not counted for each call.
    extent: Arc<Mutex<Extent>>,
    metrics: Metrics,
    path: PathBuf,
    /// Dropped last.
    _lock: Lock,
}

impl SqliteStore {
    /// Opens a file, or creates it, and migrates its schema. It blocks the thread: counting the users takes 0.1 s for a
    /// million.
    ///
    /// # Errors
    ///
    /// - Unavailable if another process has the file open, or if it cannot be created or written.
    /// - Corrupt if it is damaged or not a database.
    /// - Full if there is no space to create or migrate it. If its users can be read, this is not an error.
    /// - Internal if it belongs to another program, or to a newer version of this one.
    pub fn open(path: impl AsRef<Path>, durability: Durability) -> Result<Self, StoreError> {
        let path = &*file::resolve(path.as_ref());
        let lock = Lock::take(path)?;
        if lock.has_created_it() {
            tracing::info!(path = %path.display(), "the store did not exist; a new one is created");
        }
        file::warn_of_other_names(path);
        let opened = Self::open_to_write(path, durability);
        let opened = opened.or_else(|error| match lock.release_reserve() {
            true => Self::open_to_write(path, durability),
            false => Err(error),
        });
        let (connection, full) = opened?;
        let files = Arc::new(Files::of(path)?);
        let metrics = Metrics::new();
        let writer = Writer::new(connection, files.clone(), metrics.clone());
        let writer = writer.map_err(|error| error::of_file(path, &error))?;
        let extent = writer.extent();

        let mut readers = Readers::new();
        for _ in 0..READERS {
            readers.start(file::open(path, Access::Read)?)?;
        }
        let progress = Arc::new(Progress::default());
        match full {
            // As if the disk had become full later.
            Some(error) => progress.end(Some(error.to_string())),
            None => lock.hold_reserve(),
        }
        let writer_progress = progress.clone();
        let writer =
            Worker::start("users-write", move |groups| writer.run(groups, &writer_progress))?;
        let connection = file::open(path, Access::Read)?;
        let probe = Probe::start(connection, files, writer.queue()?.clone(), progress)?;
        Ok(Self { probe, readers, writer, extent, metrics, path: path.into(), _lock: lock })
    }

    /// The connection of the writer, and the error if the disk is full.
    fn open_to_write(
        path: &Path,
        durability: Durability,
    ) -> Result<(Connection, Option<rusqlite::Error>), StoreError> {
        let connection = file::open(path, Access::Write(durability))?;
        let full = schema::migrate(&connection).map_err(|error| error.of(path))?;
        Ok((connection, full))
    }

    /// The state that [`open`](Self::open) would find, and its errors, without any change. It counts the users too, to
    /// check that they can be read.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), except if another process has the file open.
    pub fn inspect(path: impl AsRef<Path>) -> Result<Found, StoreError> {
        let path = &*file::resolve(path.as_ref());
        if !path.exists() {
            return file::try_folder(path).map(|()| Found::Nothing);
        }
        let Ok(_lock) = Lock::inspect(path)? else { return Ok(Found::InUse) };
        let connection = file::open(path, Access::Inspect)?;
        let found = schema::inspect(&connection).map_err(|error| error.of(path))?;
        if found != Found::Nothing {
            extent::count(&connection).map_err(|error| error::of_file(path, &error))?;
        }
        Ok(found)
    }

    /// Copies the file to a new file, as a consistent snapshot. A server may use the file meanwhile. Its writes stay in
    /// the log until the copy is complete. `progress` receives the completed part, from 0 to 1.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), for both files. A server that uses the file under the same name is not an
    /// error.
    pub fn backup(
        path: impl AsRef<Path>,
        to: impl AsRef<Path>,
        progress: impl FnMut(f64),
    ) -> Result<Copied, StoreError> {
        copy::backup(&file::resolve(path.as_ref()), &file::resolve(to.as_ref()), progress)
    }

    /// Replaces the file with a copy of another one, such as a [`backup`](Self::backup). The previous contents are lost.
    /// The restore is atomic, even if it is interrupted.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), for both files. Corrupt if the other file is damaged.
    pub fn restore(
        path: impl AsRef<Path>,
        from: impl AsRef<Path>,
        progress: impl FnMut(f64),
    ) -> Result<Copied, StoreError> {
        copy::restore(&file::resolve(path.as_ref()), &file::resolve(from.as_ref()), progress)
    }
}

impl UserStore for SqliteStore {
    async fn create_one(
        &self,
        user: NewUser,
        key: Option<IdempotencyKey>,
        listener: Option<ChangeListener>,
    ) -> Result<Arc<User>, StoreError> {
        let _queued = self.metrics.commits.queued();
        let write = |reply| Write::CreateOne(user, key, listener, reply);
        self.writer.queue()?.ask(Size::ONE, write).await
    }

    async fn create_many(
        &self,
        users: Vec<NewUser>,
        part: Option<Part>,
        listener: Option<ChangeListener>,
    ) -> Result<Stored, StoreError> {
        let _queued = self.metrics.commits.queued();
        let size = Size::of(&users);
        let write = |reply| Write::CreateMany(users, part, listener, reply);
        self.writer.queue()?.ask(size, write).await
    }

    async fn get(&self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        self.readers.get(id).await
    }

    async fn update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<Arc<User>>, StoreError> {
        let _queued = self.metrics.commits.queued();
        let write = |reply| Write::Update(id, change, reply);
        self.writer.queue()?.ask(Size::ONE, write).await
    }

    async fn extent(&self) -> Result<Extent, StoreError> {
        // The value is replaced as a whole, so a poisoned lock is harmless.
        Ok(*self.extent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn scan(
        &self,
        after: Option<UserId>,
        extent: Extent,
    ) -> impl Stream<Item = Result<Page, StoreError>> + Send {
        scan::scan(&self.readers, after, extent)
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        [self.metrics.commits.collectors(), self.metrics.log.collectors()]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Checked every second, and when a commit fails.
    fn availability(&self) -> watch::Receiver<bool> {
        self.probe.availability()
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

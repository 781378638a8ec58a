//! Users in a file, by SQLite: durable, with nothing to install.
//!
//! ```text
//!  create, create_all, update ──> queue ──> one writer: BEGIN; a group; COMMIT ──> answers
//!                                                          |
//!                                        users.db, users.db-wal ── fsync, once for all of them
//!                                                          |
//!         get, scan ──> queue, get first ──> a few readers         extent: from memory
//! ```
//!
//! SQLite has one writer at a time and blocks its thread, so the store keeps a thread that writes.
//! While it waits for the disk, calls gather in its queue, and the next transaction has them all, or
//! as many as its bounds let in: the more calls, the fewer waits for each (group commit). Readers see what is committed and are
//! never held up by the writer, nor hold it up (write-ahead log). Scans never have all of the readers,
//! and take turns by pages.
//!
//! The process that opens the file is its only writer: locks make sure (`lock.rs`). One
//! more thread looks whether it is there, and can be read and written.

mod changes;
mod checkpoints;
mod copy;
mod error;
mod file;
mod keys;
mod lock;
mod order;
mod probe;
mod queue;
mod reader;
mod rows;
mod scan;
mod schema;
mod threads;
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
use self::probe::{Probe, Progress};
use self::reader::Readers;
use self::threads::Worker;
use self::writer::{Metrics, Write, Writer};
use super::availability::Availability;
use super::turns::{self, Reply, Size};
use super::{
    Creation, Extent, Found, IdSequence, IdempotencyKey, Known, Mark, PAGE_LEN, Packed, Page, Part,
    Remembered, StoreError, Stored, UserStore, forgotten, notify,
};
use crate::domain::{NewUser, User, UserChange, UserId};
use crate::store::ChangeListener;

/// Threads that read. Each answers tens of thousands of calls a second; more than one so that a page
/// of a scan or a user that has to come from the disk holds up no others.
const READERS: usize = 4;

/// When a change counts as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the disk has it (fsync): it outlives a loss of power.
    #[default]
    Full,
    /// When the operating system has it: it outlives the process. A loss of power may take the
    /// changes of the last seconds, but never leaves a part of one.
    Relaxed,
}

/// A [`UserStore`] in a file. Calls wait for its threads, which end when it is dropped.
pub struct SqliteStore {
    /// Dropped before the writer, which it asks.
    probe: Probe,
    /// Dropped before the writer: SQLite has all in one file again when its last connection ends.
    readers: Readers,
    writer: Worker<Write>,
    /// What is committed; set by the writer, so that nobody has to count.
    extent: Arc<Mutex<Extent>>,
    metrics: Metrics,
    path: PathBuf,
    /// Dropped last.
    _lock: Lock,
}

impl SqliteStore {
    /// Opens a file, or makes one if there is none, and brings its schema up to date. Blocks the
    /// thread; counting the users of a large file takes a while (0.1 s for a million).
    ///
    /// # Errors
    ///
    /// Unavailable if another process has it open, if it cannot be written, or if there can be no
    /// such file; corrupt if it is damaged or no database; full if there is no room to make it or to bring its
    /// schema up to date, but not if its users can be read; internal if it belongs to another program or to a newer version of this one.
    pub fn open(path: impl AsRef<Path>, durability: Durability) -> Result<Self, StoreError> {
        let path = &*file::resolve(path.as_ref());
        let lock = Lock::take(path)?;
        if lock.has_made_it() {
            tracing::info!(path = %path.display(), "there was no store here: a new one is made");
        }
        file::warn_of_other_names(path);
        let opened = Self::open_to_write(path, durability);
        let opened = opened.or_else(|error| match lock.give_reserve() {
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
            // As if it had filled up while it was served.
            Some(error) => progress.end(Some(error.to_string())),
            None => lock.hold_reserve(),
        }
        let of_writer = progress.clone();
        let writer = Worker::start("users-write", move |turns| writer.run(turns, &of_writer))?;
        let connection = file::open(path, Access::Read)?;
        let probe = Probe::start(connection, files, writer.queue()?.clone(), progress)?;
        Ok(Self { probe, readers, writer, extent, metrics, path: path.into(), _lock: lock })
    }

    /// The connection of the writer, and why it cannot write, if that is for lack of room.
    fn open_to_write(
        path: &Path,
        durability: Durability,
    ) -> Result<(Connection, Option<rusqlite::Error>), StoreError> {
        let connection = file::open(path, Access::Write(durability))?;
        let full = schema::migrate(&connection).map_err(|error| error.of(path))?;
        Ok((connection, full))
    }

    /// What [`open`](Self::open) would find, and its errors, without making or changing anything. It
    /// too counts the users, to see that they can be read.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), but that another process has the file.
    pub fn inspect(path: impl AsRef<Path>) -> Result<Found, StoreError> {
        let path = &*file::resolve(path.as_ref());
        if !path.exists() {
            return file::try_folder(path).map(|()| Found::Nothing);
        }
        let Ok(_lock) = Lock::inspect(path)? else { return Ok(Found::InUse) };
        let connection = file::open(path, Access::Inspect)?;
        let found = schema::inspect(&connection).map_err(|error| error.of(path))?;
        if found != Found::Nothing {
            writer::extent(&connection).map_err(|error| error::of_file(path, &error))?;
        }
        Ok(found)
    }

    /// Copies the file to another one, which must not be there yet: as it is at one moment, whether it is
    /// served or not. Others go on reading and writing meanwhile; what they write is kept in the log until it
    /// is done. `progress` is given the part that is done, from 0 to 1.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), of either file, but that a process which serves the file under this name
    /// is none.
    pub fn backup(
        path: impl AsRef<Path>,
        to: impl AsRef<Path>,
        progress: impl FnMut(f64),
    ) -> Result<Copied, StoreError> {
        copy::backup(&file::resolve(path.as_ref()), &file::resolve(to.as_ref()), progress)
    }

    /// Makes the file a copy of another one, such as one that [`backup`](Self::backup) has made, with nothing
    /// of what it held before. That happens as a whole or not at all, also if it is interrupted.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), of either file; and corrupt if the other one is not whole.
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
        let _waiting = self.metrics.commits.waiting();
        let write = |reply| Write::CreateOne(user, key, listener, reply);
        self.writer.queue()?.ask(Size::ONE, write).await
    }

    async fn create_many(
        &self,
        users: Vec<NewUser>,
        part: Option<Part>,
        listener: Option<ChangeListener>,
    ) -> Result<Stored, StoreError> {
        let _waiting = self.metrics.commits.waiting();
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
        let _waiting = self.metrics.commits.waiting();
        let write = |reply| Write::Update(id, change, reply);
        self.writer.queue()?.ask(Size::ONE, write).await
    }

    async fn extent(&self) -> Result<Extent, StoreError> {
        // Replaced as a whole.
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

    /// Looked at each second, and when a commit fails.
    fn availability(&self) -> watch::Receiver<bool> {
        self.probe.availability()
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

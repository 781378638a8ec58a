//! The probe: whether the file can be read and written.
//!
//! ```text
//!  writer ── begins, ends, fails ──> Progress ──> probe, every second and at each change ──> health
//!     ^                                             |    is it the same file, can it be read?
//!     `── while it fails: rewrite the header ───────'
//! ```
//!
//! As long as the writer commits, the probe itself writes nothing.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;

use super::file::{self, Files, Misplaced};
use super::progress::Progress;
use super::write::Write;
use super::write_queue::Queue;
use super::{Availability, StoreError};

/// The interval between probes.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time limit of a transaction: twice the time that it may wait for another program.
const COMMIT_TIMEOUT: Duration = file::BUSY_TIMEOUT.saturating_mul(2);

/// The thread of the probe. Dropping it waits for its end.
pub(super) struct Probe {
    progress: Arc<Progress>,
    availability: Arc<Availability>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Starts to probe a file that was just opened.
    pub(super) fn start(
        connection: Connection,
        files: Arc<Files>,
        writer: Queue<Write>,
        progress: Arc<Progress>,
    ) -> Result<Self, StoreError> {
        let check = Check { files, connection, writer, progress: progress.clone() };
        let availability = Arc::new(Availability::new());
        let result = availability.clone();
        let thread = thread::Builder::new().name("users-probe".into()).spawn(move || {
            while check.progress.wait(INTERVAL) {
                result.set(check.run());
            }
        });
        let thread = Some(thread.map_err(StoreError::unavailable)?);
        Ok(Self { progress, availability, thread })
    }

    pub(super) fn availability(&self) -> watch::Receiver<bool> {
        self.availability.watch()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.progress.stop();
        // A panic of the thread was logged already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A check of the file and its writer.
struct Check {
    files: Arc<Files>,
    connection: Connection,
    writer: Queue<Write>,
    progress: Arc<Progress>,
}

impl Check {
    fn run(&self) -> Result<(), ProbeError> {
        self.files.are_in_place().map_err(ProbeError::Misplaced)?;
        self.files.check_writable().map_err(ProbeError::ReadOnly)?;
        self.read().map_err(ProbeError::Read)?;
        self.check_writer()
    }

    /// Reads the page for the next user, from the file rather than from memory.
    fn read(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch("PRAGMA shrink_memory")?;
        self.connection.query_row("SELECT max(id) FROM users", [], |_| Ok(()))
    }

    /// Checks the last transaction, and the current one.
    fn check_writer(&self) -> Result<(), ProbeError> {
        if let Some(fault) = self.progress.fault() {
            // Without calls, nothing else would notice that the fault has ended. If the queue is full, calls do.
            self.writer.try_put(Write::RewriteHeader);
            return Err(ProbeError::Write(fault));
        }
        // It costs next to nothing, unless another program has written.
        self.writer.try_put(Write::Refresh);
        match self.progress.elapsed() {
            Some(elapsed) if elapsed > COMMIT_TIMEOUT => Err(ProbeError::Stuck),
            _ => Ok(()),
        }
    }
}

/// Why the file cannot be read or written.
#[derive(Debug)]
enum ProbeError {
    Misplaced(Misplaced),
    ReadOnly(io::Error),
    Read(rusqlite::Error),
    /// The error of the last transaction.
    Write(String),
    /// The current transaction takes too long.
    Stuck,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misplaced(error) => error.fmt(f),
            Self::ReadOnly(error) => error.fmt(f),
            Self::Read(error) => error.fmt(f),
            Self::Write(fault) => f.write_str(fault),
            Self::Stuck => write!(f, "a commit takes longer than {COMMIT_TIMEOUT:?}"),
        }
    }
}

impl Error for ProbeError {
    /// The source of the inner error: the `Display` text is that of the inner error.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Misplaced(error) => error.source(),
            Self::ReadOnly(error) => error.source(),
            Self::Read(error) => error.source(),
            Self::Write(_) | Self::Stuck => None,
        }
    }
}

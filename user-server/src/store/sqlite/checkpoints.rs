//! Checkpoints: they copy the write-ahead log into the database, so that the log can restart.
//!
//! SQLite's automatic checkpoints do not report failures. The log then grows until the disk is full, for example while
//! the database is read-only or another program has a long read transaction.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use prometheus::IntGauge;
use prometheus::core::Collector;
use rusqlite::{Connection, Statement};

use super::super::metrics::gauge;
use super::file::LOG_LIMIT;

/// The length of the log that triggers a checkpoint, in pages of 4 KiB. Changes wait while a checkpoint copies and syncs
/// these pages: some 8 ms.
const PAGES: i32 = 1024;

/// The size of a page in the log, with its header, in bytes.
const PAGE_LEN: i64 = 4096 + 24;

/// The metrics of the log.
#[derive(Clone)]
pub(super) struct LogMetrics {
    bytes: IntGauge,
    failing: IntGauge,
}

impl LogMetrics {
    pub(super) fn new() -> Self {
        Self {
            bytes: gauge(
                "user_store_log_bytes",
                "Size of the contents of SQLite's write-ahead log.",
            ),
            failing: gauge(
                "user_store_checkpoint_failing",
                "1 while the write-ahead log cannot be copied into the database or cannot restart.",
            ),
        }
    }

    pub(super) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![Box::new(self.bytes.clone()), Box::new(self.failing.clone())]
    }
}

/// Notes the length of the log, in pages, after each commit of this connection.
pub(super) fn watch_log(connection: &mut Connection) -> rusqlite::Result<Arc<AtomicI32>> {
    let pages = Arc::new(AtomicI32::new(0));
    let noted = pages.clone();
    connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
        noted.store(pages, Ordering::Relaxed);
        Ok(())
    }))?;
    Ok(pages)
}

/// The checkpoints of the writer.
pub(super) struct Checkpoints<'c> {
    checkpoint: Statement<'c>,
    pages: Arc<AtomicI32>,
    metrics: LogMetrics,
    /// The length of the log at the last checkpoint.
    copied: i32,
}

impl<'c> Checkpoints<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        pages: Arc<AtomicI32>,
        metrics: LogMetrics,
    ) -> rusqlite::Result<Self> {
        let checkpoint = connection.prepare("PRAGMA wal_checkpoint(PASSIVE)")?;
        Ok(Self { checkpoint, pages, metrics, copied: 0 })
    }

    /// Runs after each commit.
    pub(super) fn run(&mut self) {
        let pages = self.pages.load(Ordering::Relaxed);
        self.metrics.bytes.set(i64::from(pages) * PAGE_LEN);
        if pages < PAGES {
            self.copied = 0;
            return self.set(Ok(()));
        }
        // The log has grown since the last checkpoint. Without a reader it would have restarted.
        let is_kept = 0 < self.copied && self.copied < pages;
        self.copied = pages;
        let copied = self.checkpoint.query_row([], |_| Ok(()));
        let mib = (i64::from(pages) * PAGE_LEN) >> 20;
        match copied {
            Err(error) => self.set(Err(CheckpointError::Copy { mib, error })),
            Ok(()) if is_kept && mib > i64::from(LOG_LIMIT >> 20) => {
                self.set(Err(CheckpointError::LongRead { mib }));
            }
            Ok(()) => {}
        }
    }

    /// Sets the metric, and logs a change.
    fn set(&self, found: Result<(), CheckpointError>) {
        let was_failing = self.metrics.failing.get() != 0;
        self.metrics.failing.set(i64::from(found.is_err()));
        match found {
            Err(error) if !was_failing => tracing::warn!(%error, "checkpoints fail"),
            Ok(()) if was_failing => tracing::info!("checkpoints succeed again"),
            _ => {}
        }
    }
}

/// Why the log cannot restart.
#[derive(Debug)]
enum CheckpointError {
    Copy { mib: i64, error: rusqlite::Error },
    LongRead { mib: i64 },
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy { mib, error } => {
                write!(f, "cannot copy the log of {mib} MiB into the database: {error}")
            }
            Self::LongRead { mib } => write!(
                f,
                "another program has a long read transaction: the log has {mib} MiB and grows until it \
                 ends"
            ),
        }
    }
}

impl Error for CheckpointError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // The `Display` text includes the error itself.
            Self::Copy { error, .. } => error.source(),
            Self::LongRead { .. } => None,
        }
    }
}

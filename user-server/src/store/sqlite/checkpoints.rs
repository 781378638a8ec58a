//! Copying the log into the database, so that the log can begin anew.
//!
//! SQLite does it by itself after a commit, but keeps to itself whether it can: a database that cannot be
//! written, or a program outside that reads for long, lets the log grow until the disk is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use prometheus::IntGauge;
use prometheus::core::Collector;
use rusqlite::{Connection, Statement};

use super::super::metrics::gauge;
use super::file::LOG_LIMIT;

/// When the log is copied into the database, in pages of 4 KiB. Four times SQLite's default: each copy
/// waits for the disk twice, and rewritten pages are copied once.
const PAGES: i32 = 4096;

/// A page in the log, with its header.
const PAGE_LEN: i64 = 4096 + 24;

/// The state of the log, for operators.
#[derive(Clone)]
pub(super) struct LogMetrics {
    bytes: IntGauge,
    failing: IntGauge,
}

impl LogMetrics {
    pub(super) fn new() -> Self {
        Self {
            bytes: gauge("user_store_log_bytes", "Size of what is in SQLite's write-ahead log."),
            failing: gauge(
                "user_store_checkpoint_failing",
                "1 while that log cannot be copied into the database, or cannot begin anew.",
            ),
        }
    }

    pub(super) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![Box::new(self.bytes.clone()), Box::new(self.failing.clone())]
    }
}

/// Notes how long the log is after each commit of this connection.
pub(super) fn watch_log(connection: &mut Connection) -> rusqlite::Result<Arc<AtomicI32>> {
    let pages = Arc::new(AtomicI32::new(0));
    let noted = pages.clone();
    connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
        noted.store(pages, Ordering::Relaxed);
        Ok(())
    }))?;
    Ok(pages)
}

/// The writer's own.
pub(super) struct Checkpoints<'c> {
    checkpoint: Statement<'c>,
    pages: Arc<AtomicI32>,
    metrics: LogMetrics,
    /// How long the log was when it was copied last.
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

    /// To be called after each commit.
    pub(super) fn run(&mut self) {
        let pages = self.pages.load(Ordering::Relaxed);
        self.metrics.bytes.set(i64::from(pages) * PAGE_LEN);
        if pages < PAGES {
            self.copied = 0;
            return self.set(Ok(()));
        }
        // It has grown since: had nobody read it then, it would have begun anew.
        let is_kept = 0 < self.copied && self.copied < pages;
        self.copied = pages;
        let copied = self.checkpoint.query_row([], |_| Ok(()));
        let mib = (i64::from(pages) * PAGE_LEN) >> 20;
        match copied {
            Err(error) => self
                .set(Err(format!("cannot copy the log of {mib} MiB into the database: {error}"))),
            Ok(()) if is_kept && mib > i64::from(LOG_LIMIT >> 20) => self.set(Err(format!(
                "another program reads for long: the log has {mib} MiB and grows until that ends"
            ))),
            Ok(()) => {}
        }
    }

    /// Logs what is new.
    fn set(&self, found: Result<(), String>) {
        let was_failing = self.metrics.failing.get() != 0;
        self.metrics.failing.set(i64::from(found.is_err()));
        match found {
            Err(error) if !was_failing => tracing::warn!(%error, "checkpoints fail"),
            Ok(()) if was_failing => tracing::info!("checkpoints succeed again"),
            _ => {}
        }
    }
}

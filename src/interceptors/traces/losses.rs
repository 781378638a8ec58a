use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The least time between two log lines.
const SILENCE: Duration = Duration::from_secs(60);

/// Counts the spans that were not exported, and logs them.
pub(super) struct Losses {
    /// Spans that the full queue refused.
    dropped: Arc<AtomicU64>,
    /// Spans that the collector did not take.
    failed: u64,
    error: Option<String>,
    last_line: Option<Instant>,
}

impl Losses {
    /// `dropped` counts the spans that the full queue refuses.
    pub(super) fn new(dropped: Arc<AtomicU64>) -> Self {
        Self { dropped, failed: 0, error: None, last_line: None }
    }

    /// Counts lost spans: none, if there will be a retry.
    pub(super) fn add(&mut self, spans: u64, error: String) {
        self.failed += spans;
        self.error = Some(error);
        self.log();
    }

    /// Forgets the errors of a batch that was exported in the end, unless spans were lost.
    pub(super) fn recovered(&mut self) {
        if self.failed == 0 {
            self.error = None;
        }
    }

    /// Logs the remaining losses, without waiting for the interval.
    pub(super) fn log_last(mut self) {
        self.last_line = None;
        self.log();
    }

    /// Logs new losses, unless there was a line just now.
    pub(super) fn log(&mut self) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let is_any = self.error.is_some() || self.failed > 0 || dropped > 0;
        if !is_any || self.last_line.is_some_and(|line| line.elapsed() < SILENCE) {
            return;
        }
        self.dropped.fetch_sub(dropped, Ordering::Relaxed);
        self.last_line = Some(Instant::now());
        tracing::warn!(
            target: "balafon::traces",
            dropped,
            failed = std::mem::take(&mut self.failed),
            error = self.error.take(),
            "spans are not exported"
        );
    }
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two lines of the log.
const SILENCE: Duration = Duration::from_secs(60);

/// What has not arrived, for the log.
pub(super) struct Losses {
    /// By the queue.
    dropped: Arc<AtomicU64>,
    /// On the way to the collector.
    failed: u64,
    error: Option<String>,
    last_told: Option<Instant>,
}

impl Losses {
    /// `dropped` counts what the queue does not take.
    pub(super) fn new(dropped: Arc<AtomicU64>) -> Self {
        Self { dropped, failed: 0, error: None, last_told: None }
    }

    /// So many spans are lost; none, if there will be another try.
    pub(super) fn add(&mut self, spans: u64, error: String) {
        self.failed += spans;
        self.error = Some(error);
        self.tell_if_any();
    }

    /// A batch has arrived: what was wrong on the way is of no interest unless spans were lost.
    pub(super) fn recovered(&mut self) {
        if self.failed == 0 {
            self.error = None;
        }
    }

    /// What is left to tell, however short ago the last line was.
    pub(super) fn tell_the_last(mut self) {
        self.last_told = None;
        self.tell_if_any();
    }

    /// A line of what is new, unless there was one just now.
    pub(super) fn tell_if_any(&mut self) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let is_any = self.error.is_some() || self.failed > 0 || dropped > 0;
        if !is_any || self.last_told.is_some_and(|told| told.elapsed() < SILENCE) {
            return;
        }
        self.dropped.fetch_sub(dropped, Ordering::Relaxed);
        self.last_told = Some(Instant::now());
        tracing::warn!(
            target: "balafon::traces",
            dropped,
            failed = std::mem::take(&mut self.failed),
            error = self.error.take(),
            "spans are not exported"
        );
    }
}

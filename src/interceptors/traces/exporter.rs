use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::select;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::collector::{Endpoint, Failure};
pub use super::encode::Resource;
use super::losses::Losses;
use super::span::Span;

/// The capacity of the queue; further spans are dropped. This value and the next two are those of the
/// batch span processor of OpenTelemetry.
const MAX_QUEUE: usize = 2048;

/// Spans in a request.
const MAX_BATCH: usize = 512;

/// How long a batch waits to be filled.
const BATCH_TIME: Duration = Duration::from_secs(5);

/// The time before each retry of a batch. After the last one the batch is lost: later spans are more
/// useful.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// The longest `Retry-After` that is respected.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// Exports spans to a collector in batches. It has a thread of its own, so that calls never wait for
/// it. Spans are dropped while the queue is full. Losses are logged at most once a minute, under the
/// target `balafon::traces`.
///
/// When it is dropped, it exports the spans of the queue in the background.
pub struct Exporter {
    spans: Spans,
    stop: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

/// The sending end of the queue.
#[derive(Clone)]
pub(super) struct Spans {
    queue: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
}

impl Exporter {
    /// Starts to export spans. The collector may be unavailable at first.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn start(endpoint: Endpoint, resource: Resource) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (queue, spans) = mpsc::channel(MAX_QUEUE);
        let (stop, stopped) = oneshot::channel();
        let (finished, done) = oneshot::channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let losses = Losses::new(dropped.clone());
        let batches = Batches { spans, stopped: Some(stopped), endpoint, resource, losses };
        thread::Builder::new().name("balafon-traces".to_owned()).spawn(move || {
            runtime.block_on(batches.export());
            let _ = finished.send(());
        })?;
        Ok(Self { spans: Spans { queue, dropped }, stop, done })
    }

    pub(super) fn spans(&self) -> Spans {
        self.spans.clone()
    }

    /// Exports the spans of the queue, and returns whether that took less than `patience`. Call it when
    /// the server has drained: spans of later calls are dropped.
    pub async fn shut_down(self, patience: Duration) -> bool {
        let Self { spans, stop, done } = self;
        drop((spans, stop));
        timeout(patience, done).await.is_ok()
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl Spans {
    /// Never waits.
    pub(super) fn push(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The receiving end of the queue.
struct Batches {
    spans: mpsc::Receiver<Span>,
    /// The signal to stop; `None` after it.
    stopped: Option<oneshot::Receiver<()>>,
    endpoint: Endpoint,
    resource: Resource,
    losses: Losses,
}

impl Batches {
    async fn export(mut self) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while self.fill(&mut batch).await {
            if !batch.is_empty() {
                self.send(&batch).await;
                batch.clear();
            }
            self.losses.log();
        }
        self.losses.log_last();
    }

    /// Waits for a first span, and then for more until the batch is full or too old. False at the end of
    /// the queue.
    async fn fill(&mut self, batch: &mut Vec<Span>) -> bool {
        let Self { spans, stopped, .. } = self;
        if stopped.is_none() {
            // A closed queue gives its remaining spans without waiting.
            spans.close();
        }
        match unless(stopped, spans.recv_many(batch, MAX_BATCH)).await {
            Some(0) => return false,
            Some(_) => {}
            None => return true,
        }
        let more = async {
            while batch.len() < MAX_BATCH {
                let room = MAX_BATCH - batch.len();
                if spans.recv_many(batch, room).await == 0 {
                    break;
                }
            }
        };
        let _ = unless(stopped, timeout(BATCH_TIME, more)).await;
        if spans.is_closed() {
            // All senders are gone, so the signal is about to come.
            *stopped = None;
        }
        true
    }

    async fn send(&mut self, batch: &[Span]) {
        let count = batch.len() as u64;
        let body = Bytes::from(self.resource.encode(batch));
        let mut pauses = PAUSES.into_iter();
        loop {
            let (error, after) = match self.endpoint.post(body.clone(), count).await {
                Ok(()) => return self.losses.recovered(),
                Err(Failure::Final(error, lost)) => return self.losses.add(lost, error),
                Err(Failure::Passing(error, after)) => (error, after),
            };
            // A shutdown does not wait for a collector that is unavailable.
            let Some(pause) = pauses.next().filter(|_| self.stopped.is_some()) else {
                return self.losses.add(count, error);
            };
            self.losses.add(0, error);
            // Jitter: other servers retry as well.
            let pause = pause.mul_f64(rand::random_range(0.8..1.2));
            let requested = after.map(|time| time.min(MAX_RETRY_AFTER) + pause / 4);
            let waited = unless(&mut self.stopped, sleep(requested.unwrap_or(pause))).await;
            if waited.is_none() && requested.is_some() {
                return self.losses.add(
                    count,
                    "stopped before the time that the collector set for a retry".into(),
                );
            }
        }
    }
}

/// The output of the future, or `None` if the signal to stop comes first. The signal counts only once.
async fn unless<T>(
    stopped: &mut Option<oneshot::Receiver<()>>,
    future: impl Future<Output = T>,
) -> Option<T> {
    let Some(signal) = stopped else { return Some(future.await) };
    select! {
        biased;
        output = future => Some(output),
        _ = signal => {
            *stopped = None;
            None
        }
    }
}

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

/// Spans that wait to be exported; more are dropped. This, the next two and their values are those
/// of the batch span processor of OpenTelemetry.
const MAX_QUEUE: usize = 2048;

/// Spans in a request.
const MAX_BATCH: usize = 512;

/// How long a batch waits to be filled.
const BATCH_TIME: Duration = Duration::from_secs(5);

/// Before each further try to export a batch. What cannot be exported in all of these is lost; what
/// happened meanwhile is of more use.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// A collector that wants to be left alone for longer (`Retry-After`) is asked once an hour.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// Exports spans to a collector, in batches and from a thread of its own, so that calls never wait
/// for it. What is too much for the queue is dropped; what goes wrong is in the log, target
/// `balafon::traces`, at most once a minute.
///
/// Dropped, it exports what it has in the background.
pub struct Exporter {
    spans: Spans,
    stop: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

/// The end of the queue where spans go in.
#[derive(Clone)]
pub(super) struct Spans {
    queue: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
}

impl Exporter {
    /// Starts to export spans of this server. Nobody needs to be there yet to receive them.
    ///
    /// # Errors
    /// If the system gives no thread.
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

    /// Exports what is there, and gives whether that was done in time. To be called when the server
    /// has drained: calls that end later have their spans dropped.
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
    pub(super) fn give(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The other end of the queue.
struct Batches {
    spans: mpsc::Receiver<Span>,
    /// Until it is time to end.
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
            self.losses.tell_if_any();
        }
        self.losses.tell_the_last();
    }

    /// Waits for a first span and, for a while, for more. False if there will be none any more.
    async fn fill(&mut self, batch: &mut Vec<Span>) -> bool {
        let Self { spans, stopped, .. } = self;
        if stopped.is_none() {
            // Closed, it gives what it has, and then nothing, at once.
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
            // Nobody is left to give any: the signal is on its way.
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
            // Whoever waits for the end does not wait for a collector to come back.
            let Some(pause) = pauses.next().filter(|_| self.stopped.is_some()) else {
                return self.losses.add(count, error);
            };
            self.losses.add(0, error);
            // Others try again as well: not all of them at once.
            let pause = pause.mul_f64(rand::random_range(0.8..1.2));
            let told = after.map(|time| time.min(MAX_RETRY_AFTER) + pause / 4);
            let waited = unless(&mut self.stopped, sleep(told.unwrap_or(pause))).await;
            if waited.is_none() && told.is_some() {
                return self
                    .losses
                    .add(count, "stopped before the collector was to be asked".into());
            }
        }
    }
}

/// The output of the future, or `None` if the signal to stop comes first: it does once, and is gone
/// then.
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

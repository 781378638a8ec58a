use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use super::Drain;
use super::connection;
use super::host::Common;
use super::listener::Place;
use super::polled::Polled;
use super::stream::{Detached, Stream};
use super::timer::later;
use crate::grpc::call::Peer;

/// How long a worker that has nothing left to serve may take to end its thread: it has tasks to drop.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// Where connections are served.
pub(super) enum Workers {
    /// As tasks of the runtime that called `serve`.
    Caller(Common),
    /// On threads with a runtime each.
    Threads(Vec<Worker>),
}

pub(super) struct Worker {
    connections: mpsc::UnboundedSender<(Job<Detached>, Load)>,
    /// Connections on this worker, so that new ones go where there are fewest.
    load: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
    /// Closed at the end of the thread.
    ended: oneshot::Receiver<()>,
    polled: Arc<Polled>,
}

/// A connection to be served.
pub(super) struct Job<S = Stream> {
    pub(super) stream: S,
    pub(super) peer: Peer,
    /// Whether a PROXY header comes first.
    pub(super) proxied: bool,
    pub(super) place: Place,
    pub(super) drain: Drain,
}

/// One connection's share of a worker's load.
struct Load(Arc<AtomicUsize>);

impl Load {
    fn add(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    pub(super) fn start(count: usize, common: Common) -> io::Result<Self> {
        if count == 0 {
            return Ok(Self::Caller(common));
        }
        let workers = (0..count).map(|index| Worker::start(index, common.clone()));
        workers.collect::<io::Result<_>>().map(Self::Threads)
    }

    pub(super) fn serve(&self, job: Job) {
        match self {
            Self::Caller(common) => {
                let common = common.clone();
                tokio::spawn(async move { job.run(&common).await });
            }
            Self::Threads(workers) => {
                let least = workers.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed));
                if let Some(worker) = least {
                    worker.serve(job);
                }
            }
        }
    }

    /// Ends the threads, whose connections must have ended before. One that does not end in time,
    /// because a handler blocks it, is left behind.
    pub(super) async fn join(self) {
        let Self::Threads(workers) = self else { return };
        let deadline = later(END_TIMEOUT);
        // Closing its channel is what ends a thread. First all, so that they end at the same time.
        let close = |Worker { connections, thread, ended, polled, .. }| {
            drop(connections);
            (thread, ended, polled)
        };
        let ending: Vec<_> = workers.into_iter().map(close).collect();
        for (thread, ended, polled) in ending {
            // Not by a task that blocks: the caller's runtime could not end before the thread does.
            if timeout_at(deadline, ended).await.is_err() {
                tracing::warn!(
                    worker = thread.thread().name(),
                    method = polled.last().map(|method| method.path),
                    "a handler blocks its worker, whose thread is left behind: CallOptions::spawn \
                     is for handlers that compute or block"
                );
            } else if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

impl Job {
    async fn run(self, common: &Common) {
        let Self { stream, peer, proxied, place: _place, drain } = self;
        let mut host = common.host(peer);
        host.proxied = proxied;
        connection::serve(stream, host, drain).await;
    }
}

impl Job<Detached> {
    /// Attaches it to the runtime that this is called on.
    fn attach(self) -> io::Result<Job> {
        let Self { stream, peer, proxied, place, drain } = self;
        Ok(Job { stream: stream.attach()?, peer, proxied, place, drain })
    }
}

impl Worker {
    fn start(index: usize, common: Common) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connections, mut jobs) = mpsc::unbounded_channel::<(Job<Detached>, Load)>();
        let load = Arc::new(AtomicUsize::new(0));
        let (end, ended) = oneshot::channel();
        let polled = Arc::new(Polled::default());
        let told = polled.clone();
        let thread =
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                // Dropped last, also in a panic.
                let _end: oneshot::Sender<()> = end;
                runtime.block_on(async move {
                    // Made on this thread, it lies where no other thread has its own.
                    let common = Common { polled: Some(told), ..common.replica() };
                    while let Some((job, load)) = jobs.recv().await {
                        let common = common.clone();
                        tokio::spawn(async move {
                            let _load = load;
                            match job.attach() {
                                Ok(job) => job.run(&common).await,
                                Err(error) => tracing::warn!(%error, "cannot serve a connection"),
                            }
                        });
                    }
                });
                // Dropped, it would wait for every blocking task that a handler has started.
                runtime.shutdown_background();
            })?;
        Ok(Self { connections, load, thread, ended, polled })
    }

    fn serve(&self, job: Job) {
        let Job { stream, peer, proxied, place, drain } = job;
        let name = peer.to_string();
        let sent = stream.detach().map(|stream| {
            let job = Job { stream, peer, proxied, place, drain };
            self.connections.send((job, Load::add(&self.load))).is_ok()
        });
        if !matches!(sent, Ok(true)) {
            tracing::warn!(peer = name, "cannot hand a connection to its worker");
        }
    }
}

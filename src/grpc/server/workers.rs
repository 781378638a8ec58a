use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::Drain;
use super::connection;
use super::host::Common;
use super::listener::Place;
use super::stream::{Detached, Stream};
use crate::grpc::call::Peer;

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
}

/// A connection to be served.
pub(super) struct Job<S = Stream> {
    pub(super) stream: S,
    pub(super) peer: Peer,
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

    /// Waits for the threads; their connections must have ended before.
    pub(super) async fn join(self) {
        let Self::Threads(workers) = self else { return };
        for Worker { connections, thread, .. } in workers {
            // Closing the channel is what ends the thread.
            drop(connections);
            let joined = tokio::task::spawn_blocking(|| thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

impl Job {
    async fn run(self, common: &Common) {
        let Self { stream, peer, place: _place, drain } = self;
        connection::serve(stream, common.host(peer), drain).await;
    }
}

impl Job<Detached> {
    /// Attaches it to the runtime that this is called on.
    fn attach(self) -> io::Result<Job> {
        let Self { stream, peer, place, drain } = self;
        Ok(Job { stream: stream.attach()?, peer, place, drain })
    }
}

impl Worker {
    fn start(index: usize, common: Common) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connections, mut jobs) = mpsc::unbounded_channel::<(Job<Detached>, Load)>();
        let load = Arc::new(AtomicUsize::new(0));
        let thread =
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                runtime.block_on(async move {
                    // Made on this thread, it lies where no other thread has its own.
                    let common = common.replica();
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
        Ok(Self { connections, load, thread })
    }

    fn serve(&self, job: Job) {
        let Job { stream, peer, place, drain } = job;
        let name = peer.to_string();
        let sent = stream.detach().map(|stream| {
            let job = Job { stream, peer, place, drain };
            self.connections.send((job, Load::add(&self.load))).is_ok()
        });
        if !matches!(sent, Ok(true)) {
            tracing::warn!(peer = name, "cannot hand a connection to its worker");
        }
    }
}

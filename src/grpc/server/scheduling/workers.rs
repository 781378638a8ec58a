use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::timeout_at;

use crate::grpc::call::Peer;
use crate::grpc::server::accept::stream::{Detached, Stream};
use crate::grpc::server::connection::context::ServerContext;
use crate::grpc::server::connection::serve::serve;
use crate::grpc::server::drain::Drain;
use crate::grpc::server::scheduling::polled_method::LastPolledMethod;
use crate::grpc::server::scheduling::timer::later;
use tokio::sync::OwnedSemaphorePermit;

/// The time for an idle worker to end its thread, because it has to drop tasks.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// Connections that wait for their worker to begin with them. Further ones wait in the backlog of
/// the kernel, where they take no memory of the process and no place among the connections.
const WAITING: usize = 64;

/// The threads or the runtime that serve connections.
pub(crate) enum Workers {
    /// Tasks of the runtime that called `serve`.
    Caller(ServerContext),
    /// Threads with a runtime each.
    Threads(Vec<Worker>),
}

pub(crate) struct Worker {
    connections: mpsc::Sender<(Job<Detached>, Load)>,
    /// Connections on this worker. New connections go to the worker with the fewest.
    load: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
    /// Closed at the end of the thread.
    ended: oneshot::Receiver<()>,
    last_polled: Arc<LastPolledMethod>,
}

/// A connection to be served.
pub(crate) struct Job<S = Stream> {
    pub(crate) stream: S,
    pub(crate) peer: Peer,
    /// Whether the connection begins with a PROXY header.
    pub(crate) proxied: bool,
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) drain: Drain,
}

/// One connection in the load of a worker.
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
    pub(crate) fn start(count: usize, server: ServerContext) -> io::Result<Self> {
        if count == 0 {
            return Ok(Self::Caller(server));
        }
        let workers = (0..count).map(|index| Worker::start(index, server.clone()));
        workers.collect::<io::Result<_>>().map(Self::Threads)
    }

    /// Passes a connection to the worker with the fewest, among those that have begun with nearly
    /// all of theirs. Waits while there is none.
    pub(crate) async fn serve(&self, job: Job) {
        match self {
            Self::Caller(server) => {
                let server = server.clone();
                tokio::spawn(async move { job.run(&server).await });
            }
            Self::Threads(workers) => {
                let ready = workers.iter().filter(|worker| worker.connections.capacity() > 0);
                let least = ready.min_by_key(|worker| worker.load.load(Ordering::Relaxed));
                let worker = match least {
                    Some(worker) => worker,
                    None => first_ready(workers).await,
                };
                worker.serve(job);
            }
        }
    }

    /// Ends the threads. Their connections must have ended before. A thread that a handler blocks
    /// is left running after a timeout.
    pub(crate) async fn join(self) {
        let Self::Threads(workers) = self else { return };
        let deadline = later(END_TIMEOUT);
        // Closing its channel ends a thread. Close all channels first, so that the threads end in
        // parallel.
        let close = |Worker { connections, thread, ended, last_polled, .. }| {
            drop(connections);
            (thread, ended, last_polled)
        };
        let ending: Vec<_> = workers.into_iter().map(close).collect();
        for (thread, ended, last_polled) in ending {
            // Not in a blocking task: the caller's runtime could then not end before the thread.
            if timeout_at(deadline, ended).await.is_err() {
                tracing::warn!(
                    worker = thread.thread().name(),
                    method = last_polled.last().map(|method| method.path),
                    "a handler blocks its worker; the thread is left running. Set \
                     CallOptions::spawn for handlers that compute or block"
                );
            } else if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

/// Waits for a worker that can take a connection. One whose thread a handler blocks does not hold
/// up the others.
async fn first_ready(workers: &[Worker]) -> &Worker {
    let ready = workers.iter().map(|worker| {
        Box::pin(async move {
            // Fails only after a panic of the thread. Its connection is then logged and dropped.
            let _ = worker.connections.reserve().await;
            worker
        })
    });
    select_all(ready).await.0
}

impl Job {
    async fn run(self, server: &ServerContext) {
        let Self { stream, peer, proxied, permit: _permit, drain } = self;
        let mut context = server.connection(peer);
        context.proxied = proxied;
        serve(stream, context, drain).await;
    }
}

impl Job<Detached> {
    /// Attaches the stream to the current runtime.
    fn attach(self) -> io::Result<Job> {
        let Self { stream, peer, proxied, permit, drain } = self;
        Ok(Job { stream: stream.attach()?, peer, proxied, permit, drain })
    }
}

impl Worker {
    fn start(index: usize, server: ServerContext) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connections, mut jobs) = mpsc::channel::<(Job<Detached>, Load)>(WAITING);
        let load = Arc::new(AtomicUsize::new(0));
        let (end, ended) = oneshot::channel();
        let last_polled = Arc::new(LastPolledMethod::default());
        let of_thread = last_polled.clone();
        let thread =
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                // Dropped last, even after a panic.
                let _end: oneshot::Sender<()> = end;
                runtime.block_on(async move {
                    let server = server.for_worker(of_thread);
                    while let Some((job, load)) = jobs.recv().await {
                        let server = server.clone();
                        tokio::spawn(async move {
                            let _load = load;
                            match job.attach() {
                                Ok(job) => job.run(&server).await,
                                Err(error) => tracing::warn!(%error, "cannot serve a connection"),
                            }
                        });
                        // Lets it begin before the next one takes memory: it may be closed already.
                        yield_now().await;
                    }
                });
                // Dropping the runtime would wait for blocking tasks that handlers have started.
                runtime.shutdown_background();
            })?;
        Ok(Self { connections, load, thread, ended, last_polled })
    }

    fn serve(&self, job: Job) {
        let Job { stream, peer, proxied, permit, drain } = job;
        let name = peer.to_string();
        let sent = stream.detach().map(|stream| {
            let job = Job { stream, peer, proxied, permit, drain };
            self.connections.try_send((job, Load::add(&self.load))).is_ok()
        });
        if !matches!(sent, Ok(true)) {
            tracing::warn!(peer = name, "cannot pass a connection to its worker");
        }
    }
}

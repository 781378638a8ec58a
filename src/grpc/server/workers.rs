use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::Drain;
use super::connection::{self, Host};
use super::listener::Place;
use super::stream::{Detached, Stream};

/// Where connections are served.
pub(super) enum Workers {
    /// As tasks of the runtime that called `serve`.
    Caller,
    /// On threads with a runtime each.
    Threads(Vec<Worker>),
}

pub(super) struct Worker {
    connections: mpsc::UnboundedSender<Job>,
    /// Connections on this worker, so that new ones go where there are fewest.
    load: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

struct Job {
    stream: Detached,
    place: Place,
    host: Host,
    drain: Drain,
    load: Load,
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
    pub(super) fn start(count: usize) -> io::Result<Self> {
        match count {
            0 => Ok(Self::Caller),
            _ => (0..count).map(Worker::start).collect::<io::Result<_>>().map(Self::Threads),
        }
    }

    pub(super) fn serve(&self, stream: Stream, place: Place, host: Host, drain: Drain) {
        match self {
            Self::Caller => {
                tokio::spawn(async move {
                    let _place = place;
                    connection::serve(stream, host, drain).await;
                });
            }
            Self::Threads(workers) => {
                let least = workers.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed));
                if let Some(worker) = least {
                    worker.serve(stream, place, host, drain);
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

impl Worker {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connections, mut jobs) = mpsc::unbounded_channel::<Job>();
        let load = Arc::new(AtomicUsize::new(0));
        let thread =
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                runtime.block_on(async move {
                    while let Some(Job { stream, place, host, drain, load }) = jobs.recv().await {
                        tokio::spawn(async move {
                            let _held = (load, place);
                            match stream.attach() {
                                Ok(stream) => connection::serve(stream, host, drain).await,
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

    fn serve(&self, stream: Stream, place: Place, host: Host, drain: Drain) {
        let peer = host.peer.clone();
        let sent = stream.detach().map(|stream| {
            let load = Load::add(&self.load);
            self.connections.send(Job { stream, place, host, drain, load }).is_ok()
        });
        if !matches!(sent, Ok(true)) {
            tracing::warn!(%peer, "cannot hand a connection to its worker");
        }
    }
}

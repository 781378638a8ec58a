use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::grpc::call::Peer;
use crate::grpc::server::accept::listeners::{Listeners, Source};
use crate::grpc::server::accept::proxy_protocol;
use crate::grpc::server::accept::stream::Stream;
use crate::grpc::server::stats::ServerStats;
use crate::log_throttle::LogThrottle;

/// The pause after `accept` has failed for lack of file descriptors or memory. An immediate retry
/// would keep a core busy until a connection closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An accepted connection with its peer and its permit.
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    pub(crate) peer: Peer,
    /// Whether the connection begins with a PROXY header.
    pub(crate) proxied: bool,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Accepts connections up to the limit.
pub(crate) struct Listener {
    listeners: Listeners,
    permits: Arc<Semaphore>,
    max_connections: usize,
    stats: Arc<ServerStats>,
    refused: LogThrottle,
    failed: LogThrottle,
}

impl Listener {
    pub(crate) fn new(
        listeners: Listeners,
        max_connections: usize,
        stats: Arc<ServerStats>,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        let (refused, failed) = (LogThrottle::new(1), LogThrottle::new(1));
        Self { listeners, permits, max_connections, stats, refused, failed }
    }

    /// Accepts the next connection. Cancel safe.
    ///
    /// Connections without a permit are closed at once. In the kernel's queue, their clients would
    /// wait instead of trying another server. A listener that expects PROXY headers also closes
    /// connections from untrusted addresses.
    pub(crate) async fn accept(&mut self) -> Accepted {
        loop {
            match poll_fn(|cx| self.listeners.poll_accept(cx)).await {
                Ok((stream, addr, source)) => {
                    let proxied = match source {
                        Source::Direct => false,
                        Source::TrustedProxy => true,
                        Source::Untrusted => {
                            proxy_protocol::refuse(
                                &Peer::new(addr),
                                "its address is not a trusted source of PROXY headers",
                            );
                            continue;
                        }
                    };
                    let Ok(permit) = self.permits.clone().try_acquire_owned() else {
                        drop(stream);
                        self.stats.refuse();
                        let limit = self.max_connections;
                        self.refused.log(|refused| {
                            tracing::warn!(
                                refused,
                                limit,
                                "connection limit reached, closing new connections"
                            );
                        });
                        continue;
                    };
                    let peer = Peer::new(addr);
                    // Responses are written when they are complete, so Nagle's algorithm only
                    // delays them.
                    if let Stream::Tcp(stream) = &stream
                        && let Err(error) = stream.set_nodelay(true)
                    {
                        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
                    }
                    return Accepted { stream, peer, proxied, permit };
                }
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(%error, "a connection failed before it was accepted");
                }
                Err(error) => {
                    self.failed.log(|attempts| {
                        tracing::warn!(%error, attempts, "cannot accept connections, trying again");
                    });
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// accept(2) returns errors of the connection that it would have accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

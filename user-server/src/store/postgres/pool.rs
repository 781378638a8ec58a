//! The connection pool, and sessions that use a connection of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::StoreError;
use super::connection::Connection;
use super::connector::Connector;
use super::tls::Tls;

/// How long a call waits for a free connection. A call with an earlier deadline ends at that deadline.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit of a cancellation. If it fails, `statement_timeout` ends the statement.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a read may continue after its call has ended. A page takes a few milliseconds. A new connection takes
/// as long, and more work of the database.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections to one database. Clones share the pool.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    connector: Arc<Connector>,
    /// The most recently used connection is the last one.
    idle: Mutex<Vec<Connection>>,
    /// A permit for each connection, granted in order of requests.
    turns: Arc<Semaphore>,
    size: usize,
    waiting: AtomicUsize,
}

impl Pool {
    /// A pool with at most `size` connections, which are made on demand.
    pub(super) fn new(connector: Arc<Connector>, size: usize) -> Self {
        let turns = Arc::new(Semaphore::new(size));
        let (idle, waiting) = (Mutex::default(), AtomicUsize::new(0));
        Self(Arc::new(Shared { connector, idle, turns, size, waiting }))
    }

    /// Waits for a free connection, or makes one.
    pub(super) async fn get(&self) -> Result<Session, StoreError> {
        let turn = self.turn().await?;
        let idle = self.take_idle();
        let connection = match idle {
            Some(connection) => connection,
            None => self.0.connector.connect().await?,
        };
        Ok(Session { pool: self.clone(), turn, connection: Some(connection), read_only: false })
    }

    async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, StoreError> {
        let turns = self.0.turns.clone();
        if let Ok(turn) = turns.clone().try_acquire_owned() {
            return Ok(Some(turn));
        }
        let _waiting = Waiting::new(&self.0.waiting);
        match timeout(WAIT_TIMEOUT, turns.acquire_owned()).await {
            Ok(turn) => turn.map(Some).map_err(StoreError::internal),
            Err(_) => Err(StoreError::unavailable("no connection became free within 5 s")),
        }
    }

    /// An idle connection that is usable.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        idle.retain(|connection| self.is_usable(connection));
        idle.pop()
    }

    fn is_usable(&self, connection: &Connection) -> bool {
        !connection.is_closed() && connection.generation() == self.0.connector.generation()
    }

    fn put_back(&self, connection: Connection) {
        if self.is_usable(&connection) {
            self.idle().push(connection);
        }
    }

    /// Makes all connections.
    pub(super) async fn fill(&self) -> Result<(), StoreError> {
        let all = try_join_all((0..self.0.size).map(|_| self.get())).await?;
        all.into_iter().for_each(Session::release);
        Ok(())
    }

    pub(super) fn size(&self) -> usize {
        self.0.size
    }

    /// The number of connections that are in use or being made.
    pub(super) fn in_use(&self) -> usize {
        self.0.size - self.0.turns.available_permits()
    }

    /// The number of calls that wait for a connection.
    pub(super) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a waiting call until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection of the pool. If it is dropped before it is [released](Self::release), its statement is cancelled.
/// The connection is not used again, because an answer may still arrive. A read may finish within two seconds, and
/// the connection then returns to the pool.
pub(super) struct Session {
    pool: Pool,
    /// The permit for the connection.
    turn: Option<OwnedSemaphorePermit>,
    /// `None` after the release.
    connection: Option<Connection>,
    read_only: bool,
}

impl Session {
    /// Declares that all statements of the session only read.
    pub(super) fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    pub(super) fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("a released session is consumed")
    }

    /// Returns the connection to the pool, after all statements were answered. The pool drops a closed one.
    pub(super) fn release(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put_back(connection);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let pool = self.pool.clone();
        let turn = self.turn.take();
        let read_only = self.read_only;
        // Without a runtime the process is about to end, and its connections with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if read_only && timeout(READ_TIMEOUT, connection.has_answered()).await == Ok(true) {
                    pool.put_back(connection);
                    return;
                }
                drop(turn);
                cancel(connection, pool.0.connector.tls()).await;
            });
        }
    }
}

/// Closes a connection and cancels its statement.
async fn cancel(connection: Connection, tls: Tls) {
    let cancel = connection.cancel_token();
    drop(connection);
    match timeout(CANCEL_TIMEOUT, cancel.cancel_query(tls)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "cannot cancel a statement"),
        Err(_) => tracing::debug!("the cancellation of a statement timed out"),
    }
}

//! Connections that are kept, and one of them for one piece of work.

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

/// How long a call waits for a connection to be free. Calls that have a deadline wait no longer than
/// that.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a cancellation may take: the server has other ways to find out, `statement_timeout`.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a statement that only reads may go on when its call is over: a page takes a few
/// milliseconds, a new connection as long and more of the database.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections to one database. Clones are the same pool.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    connector: Arc<Connector>,
    /// Nobody uses them. The last one is the one that was used last.
    idle: Mutex<Vec<Connection>>,
    /// One for each connection that may be used, in the order in which they are asked for.
    turns: Arc<Semaphore>,
    size: usize,
    waiting: AtomicUsize,
}

impl Pool {
    /// Of at most so many connections, which are made when they are needed.
    pub(super) fn new(connector: Arc<Connector>, size: usize) -> Self {
        let turns = Arc::new(Semaphore::new(size));
        let (idle, waiting) = (Mutex::default(), AtomicUsize::new(0));
        Self(Arc::new(Shared { connector, idle, turns, size, waiting }))
    }

    /// Waits for a connection to be free, or makes one.
    pub(super) async fn get(&self) -> Result<Session, StoreError> {
        let turn = self.turn().await?;
        let known = self.known();
        let connection = match known {
            Some(connection) => connection,
            None => self.0.connector.connect().await?,
        };
        Ok(Session { pool: self.clone(), turn, connection: Some(connection), only_reads: false })
    }

    async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, StoreError> {
        let turns = self.0.turns.clone();
        if let Ok(turn) = turns.clone().try_acquire_owned() {
            return Ok(Some(turn));
        }
        let _waiting = Waiting::new(&self.0.waiting);
        match timeout(WAIT_TIMEOUT, turns.acquire_owned()).await {
            Ok(turn) => turn.map(Some).map_err(StoreError::internal),
            Err(_) => Err(StoreError::unavailable("no connection is free in time")),
        }
    }

    /// One that nobody uses, and that can be used.
    fn known(&self) -> Option<Connection> {
        let mut idle = self.idle();
        idle.retain(|connection| self.is_good(connection));
        idle.pop()
    }

    fn is_good(&self, connection: &Connection) -> bool {
        !connection.is_closed() && connection.generation() == self.0.connector.generation()
    }

    fn put_back(&self, connection: Connection) {
        if self.is_good(&connection) {
            self.idle().push(connection);
        }
    }

    /// Makes all of its connections.
    pub(super) async fn fill(&self) -> Result<(), StoreError> {
        let all = try_join_all((0..self.0.size).map(|_| self.get())).await?;
        all.into_iter().for_each(Session::release);
        Ok(())
    }

    pub(super) fn size(&self) -> usize {
        self.0.size
    }

    /// How many connections are being used, or made.
    pub(super) fn in_use(&self) -> usize {
        self.0.size - self.0.turns.available_permits()
    }

    /// How many calls wait for one.
    pub(super) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one who waits, for as long as it is there.
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

/// A connection of the pool. If it is dropped before it is [released](Self::release), its statement is
/// cancelled, and it is not used again: an answer may still come. A statement that only reads gets a
/// moment to end, and the connection goes back to the pool.
pub(super) struct Session {
    pool: Pool,
    /// Until another call may have one.
    turn: Option<OwnedSemaphorePermit>,
    /// `None` once it is released.
    connection: Option<Connection>,
    only_reads: bool,
}

impl Session {
    /// Each of its statements is one that only reads.
    pub(super) fn only_reads(mut self) -> Self {
        self.only_reads = true;
        self
    }

    pub(super) fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("nobody has it after its release")
    }

    /// All is answered. The pool throws away those that are closed.
    pub(super) fn release(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put_back(connection);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let (pool, turn, only_reads) = (self.pool.clone(), self.turn.take(), self.only_reads);
        // Without a runtime the process is about to end, and its connections with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if only_reads && timeout(READ_TIMEOUT, connection.answers()).await == Ok(true) {
                    pool.put_back(connection);
                    return;
                }
                drop(turn);
                cancel(connection, pool.0.connector.tls()).await;
            });
        }
    }
}

/// Closes a connection, and cancels its statement.
async fn cancel(connection: Connection, tls: Tls) {
    let cancel = connection.cancel_token();
    drop(connection);
    match timeout(CANCEL_TIMEOUT, cancel.cancel_query(tls)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "cannot cancel a statement"),
        Err(_) => tracing::debug!("a cancellation is not taken"),
    }
}

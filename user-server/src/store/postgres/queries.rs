//! Single statements, each with its own transaction.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_postgres::Row;

use super::breaker::Breaker;
use super::connection::Value;
use super::pool::Pool;
use super::{StoreError, error};

/// Runs statements on the connections of the pool.
#[derive(Clone)]
pub(super) struct Queries {
    pub(super) pool: Pool,
    pub(super) breaker: Arc<Breaker>,
    /// Limits the pages of scans that are read at the same time, so that scans never use all connections. Scans
    /// take turns in order of their requests.
    scans: Arc<Semaphore>,
}

impl Queries {
    pub(super) fn new(pool: Pool, breaker: Arc<Breaker>) -> Self {
        let scans = Arc::new(Semaphore::new((pool.size() / 2).max(1)));
        Self { pool, breaker, scans }
    }

    /// The rows of a page, once it is the turn of its scan.
    pub(super) async fn query_page(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        // While the database is unavailable, turns are short.
        let _turn = self.scans.acquire().await.map_err(StoreError::internal)?;
        self.query(sql, values, Retry::Reads).await
    }

    /// The rows of one statement, on a connection of the pool.
    pub(super) async fn query(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
        retry: Retry,
    ) -> Result<Vec<Row>, StoreError> {
        self.breaker.guard(self.try_query(sql, values, retry)).await
    }

    async fn try_query(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
        retry: Retry,
    ) -> Result<Vec<Row>, StoreError> {
        let mut left = ATTEMPTS;
        loop {
            let opened = self.pool.get().await;
            let mut session = opened.inspect_err(|_| self.breaker.suspect())?;
            if retry == Retry::Reads {
                session = session.read_only();
            }
            left -= 1;
            let answer = session.connection().query(sql, values).await;
            session.release();
            match answer {
                Ok(rows) => return Ok(rows),
                Err(error) if left > 0 && retry.is_allowed_after(&error) => {}
                Err(error) => {
                    let lost = error::is_lost(&error);
                    let fault = error::of_call(&error);
                    if lost || error::is_read_only(&error) {
                        self.breaker.suspect();
                    }
                    let unknown = lost && retry == Retry::Writes;
                    return Err(if unknown { fault.into_unknown() } else { fault });
                }
            }
        }
    }
}

/// The maximum number of attempts of a statement. Conflicts are rare. If all connections of the pool are lost, a
/// statement may get several of them before a new one is made.
pub(super) const ATTEMPTS: usize = 3;

/// When a statement may be retried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// Always: the statement changes nothing.
    Reads,
    /// Only if the statement certainly had no effect.
    Writes,
}

impl Retry {
    fn is_allowed_after(self, error: &tokio_postgres::Error) -> bool {
        error::is_conflict(error) || self == Self::Reads && error::is_lost(error)
    }
}

//! Statements that are transactions of their own.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_postgres::Row;

use super::breaker::Breaker;
use super::connection::Value;
use super::pool::Pool;
use super::{StoreError, error};

/// What it takes to ask the database.
#[derive(Clone)]
pub(super) struct Queries {
    pub(super) pool: Pool,
    pub(super) breaker: Arc<Breaker>,
    /// Pages of scans that may be read at a time, so that scans never have all of the connections. They
    /// take turns in the order in which they ask.
    scans: Arc<Semaphore>,
}

impl Queries {
    pub(super) fn new(pool: Pool, breaker: Arc<Breaker>) -> Self {
        let scans = Arc::new(Semaphore::new((pool.size() / 2).max(1)));
        Self { pool, breaker, scans }
    }

    /// The rows of a scan's page, when it is that scan's turn.
    pub(super) async fn query_page(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        // While the database is away, turns are short.
        let _turn = self.scans.acquire().await.map_err(StoreError::internal)?;
        self.query(sql, values, Again::Reads).await
    }

    /// The rows of one statement, on a connection of its own.
    pub(super) async fn query(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
        again: Again,
    ) -> Result<Vec<Row>, StoreError> {
        self.breaker.guard(self.try_query(sql, values, again)).await
    }

    async fn try_query(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
        again: Again,
    ) -> Result<Vec<Row>, StoreError> {
        let mut left = ATTEMPTS;
        loop {
            let opened = self.pool.get().await;
            let mut session = opened.inspect_err(|_| self.breaker.suspect())?;
            if again == Again::Reads {
                session = session.only_reads();
            }
            left -= 1;
            let answer = session.connection().query(sql, values).await;
            session.release();
            match answer {
                Ok(rows) => return Ok(rows),
                Err(error) if left > 0 && again.may_follow(&error) => {}
                Err(error) => {
                    let (lost, fault) = (error::is_lost(&error), error::of_call(&error));
                    if lost || error::is_read_only(&error) {
                        self.breaker.suspect();
                    }
                    let unknown = lost && again == Again::Writes;
                    return Err(if unknown { fault.into_unknown() } else { fault });
                }
            }
        }
    }
}

/// How often a statement is tried: conflicts are rare, and a connection that was lost with all of its
/// pool is found to be so by each that takes one of them.
pub(super) const ATTEMPTS: usize = 3;

/// When a statement may be tried again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Whatever has happened, it changes nothing.
    Reads,
    /// Only if it certainly has not happened.
    Writes,
}

impl Again {
    fn may_follow(self, error: &tokio_postgres::Error) -> bool {
        error::is_conflict(error) || self == Self::Reads && error::is_lost(error)
    }
}

//! One connection, and how statements are executed on it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::join3;
use tokio::task::JoinHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{CancelToken, Client, Error, Row, SimpleQueryMessage, Statement};

use super::error;

/// A value of a statement.
pub(super) type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// Where the settings of statements are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settings {
    /// In the session, which keeps prepared statements too.
    OfSession,
    /// In each transaction: a pooler may give each transaction another session. Statements are not prepared.
    OfTransaction,
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Begins a transaction with the settings of `OPTIONS` in `connector.rs`.
const BEGIN_WITH_SETTINGS: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL statement_timeout = 10000; SET LOCAL lock_timeout = 5000;
    SET LOCAL idle_in_transaction_session_timeout = 10000; SET LOCAL client_min_messages = warning";

/// A session of the database, or of a pooler.
pub(super) struct Connection {
    client: Client,
    task: JoinHandle<()>,
    settings: Settings,
    can_write: bool,
    generation: u64,
    prepared: Mutex<HashMap<&'static str, Statement>>,
}

impl Connection {
    pub(super) fn new(client: Client, task: JoinHandle<()>, generation: u64) -> Self {
        Self {
            client,
            task,
            settings: Settings::OfTransaction,
            can_write: false,
            generation,
            prepared: Mutex::default(),
        }
    }

    pub(super) fn with(mut self, settings: Settings, can_write: bool) -> Self {
        self.settings = settings;
        self.can_write = can_write;
        self
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the database was writable at the time of the connection.
    pub(super) fn can_write(&self) -> bool {
        self.can_write
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Whether the database is writable now. This is also the cheapest check that statements are answered.
    pub(super) async fn is_writable(&self) -> Result<bool, Error> {
        let messages = self.client.simple_query("SHOW transaction_read_only").await?;
        Ok(messages.iter().any(
            |message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("off")),
        ))
    }

    /// The rows of one statement, in its own transaction.
    pub(super) async fn query(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Error> {
        match self.settings {
            Settings::OfSession => match self.run(sql, values).await {
                // The statement was not executed.
                Err(error) if error::is_stale(&error) => {
                    self.forget_prepared();
                    self.client.query_typed(sql, values).await
                }
                outcome => outcome,
            },
            Settings::OfTransaction => {
                // All three are sent in one round trip.
                let (begin, rows, commit) = join3(
                    self.client.batch_execute(BEGIN_WITH_SETTINGS),
                    self.client.query_typed(sql, values),
                    self.client.batch_execute("COMMIT"),
                )
                .await;
                begin?;
                let rows = rows?;
                commit.map(|()| rows)
            }
        }
    }

    /// Begins a transaction. It ends with [`commit`](Self::commit), or with [`rollback`](Self::rollback).
    pub(super) async fn begin(&self) -> Result<(), Error> {
        let begin = match self.settings {
            Settings::OfSession => BEGIN,
            Settings::OfTransaction => BEGIN_WITH_SETTINGS,
        };
        self.client.batch_execute(begin).await
    }

    pub(super) async fn commit(&self) -> Result<(), Error> {
        self.client.batch_execute("COMMIT").await
    }

    pub(super) async fn rollback(&self) -> Result<(), Error> {
        self.client.batch_execute("ROLLBACK").await
    }

    /// The rows of one statement in a transaction.
    pub(super) async fn run(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Error> {
        if self.settings == Settings::OfTransaction {
            return self.client.query_typed(sql, values).await;
        }
        let known = self.prepared().get(sql).cloned();
        let statement = match known {
            Some(statement) => statement,
            None => {
                let types: Vec<Type> = values.iter().map(|(_, kind)| kind.clone()).collect();
                let statement = self.client.prepare_typed(sql, &types).await?;
                self.prepared().insert(sql, statement.clone());
                statement
            }
        };
        let values: Vec<_> = values.iter().map(|(value, _)| *value).collect();
        self.client.query(&statement, &values).await
    }

    /// Runs statements without values and rows in a transaction.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await
    }

    /// Forgets the prepared statements, which no longer exist or have changed.
    pub(super) fn forget_prepared(&self) {
        self.prepared().clear();
    }

    /// Waits until all statements are answered. False if the connection is lost.
    pub(super) async fn has_answered(&self) -> bool {
        self.client.simple_query("").await.is_ok()
    }

    pub(super) fn cancel_token(&self) -> CancelToken {
        self.client.cancel_token()
    }

    fn prepared(&self) -> std::sync::MutexGuard<'_, HashMap<&'static str, Statement>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The task would run until all statements are answered.
        self.task.abort();
    }
}

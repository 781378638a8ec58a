//! Users in PostgreSQL, or in a database with its protocol: for several servers on one database.
//!
//! ```text
//!  creations ──> queue ──> one task: BEGIN; lock the sequence; a group; COMMIT
//!  get, update, extent ──> a connection of the pool each ──> one statement
//!  scan ──> a task ──> the same for each page, on at most half of the connections
//!  every half second ──> the probe's own connection ──> is it writable? ──> circuit breaker ──> health
//! ```
//!
//! Users appear in order of their places, across servers. A creation locks the single row of `user_sequence`, with
//! the last place and the newest id, until the commit. So each server groups its creations, as for SQLite, and a
//! group shares the lock and the wait for the disk. A trigger assigns places to rows that other programs insert,
//! with any ids.
//!
//! If a call ends, its statement is cancelled. A read may continue for up to 2 s, which keeps its connection.
//! Creations are cancelled when all calls of their group have ended. While the database is unavailable, calls fail
//! immediately. When it becomes unavailable, waiting calls fail too.

mod breaker;
mod connection;
mod connector;
mod creation;
mod error;
mod keys;
mod metrics;
mod plan;
mod pool;
mod queries;
mod rows;
mod scan;
mod schema;
mod tls;
mod url;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::try_join_all;
use prometheus::core::Collector;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::types::Type;
use uuid::Uuid;

use self::breaker::Breaker;
use self::connection::Value;
use self::connector::Connector;
use self::creation::{CreateRequest, Created, Job, Users};
use self::metrics::StoreMetrics;
use self::pool::Pool;
use self::queries::{ATTEMPTS, Queries, Retry};
use self::url::Target;
use self::writer::Writer;
use super::metrics::CommitMetrics;
use super::write_queue::{self, Queue, Size};
use super::{
    Creation, Extent, Found, IdSequence, IdempotencyKey, Known, Mark, PAGE_LEN, Packed, Page, Part,
    Progress, Remembered, StoreError, Stored, UserStore, forgotten, notify,
};
use crate::domain::{NewUser, User, UserChange, UserId};
use crate::store::ChangeListener;
use balafon::ClientTls;

/// The time limit for an inspection of the database, after the connection is made.
const INSPECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// How to connect to a database.
#[derive(Clone, Debug)]
pub struct Options {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE`, or any other URL that
    /// libpq accepts. It can have several hosts, and a `connect_timeout` for each of their addresses.
    pub url: String,
    /// If set, connections use TLS, the certificate must match the host, and `sslmode=disable` is an error. If unset,
    /// the URL decides, and its default is no TLS. An `sslmode` without verification is an error.
    pub tls: Option<ClientTls>,
    /// The maximum number of connections, besides one that creates users and one for the probe.
    pub connections: usize,
}

/// A [`UserStore`] in PostgreSQL. Its tasks run on the runtime of [`connect`](Self::connect), and end when it is
/// dropped. The task of a scan runs on the runtime of its caller.
pub struct PostgresStore {
    queries: Queries,
    creations: Queue<Job>,
    commits: CommitMetrics,
    _tasks: JoinSet<()>,
}

impl PostgresStore {
    /// Connects, and creates or migrates the schema. If several servers start at once, only one of them does. A
    /// read-only database is accepted if its schema is up to date.
    ///
    /// # Errors
    ///
    /// Unavailable if the database cannot be reached. Internal if the URL is wrong, if the schema belongs to a
    /// newer version of this program, or if the role lacks a privilege.
    pub async fn connect(options: &Options) -> Result<Self, StoreError> {
        let connector = Arc::new(Connector::new(Target::parse(options)?));
        let pool = Pool::new(connector.clone(), options.connections);
        // Creations have their own connection, so that they do not wait for one while other calls wait for
        // them.
        let own = Pool::new(connector.clone(), 1);
        let session = pool.get().await?;
        if in_time(schema::inspect(session.connection())).await?.would_change() {
            schema::migrate(session.connection()).await?;
        }
        session.release();
        if connector.is_pooled() {
            check_connections(&[&pool, &own], options.connections + 2).await?;
        }

        let breaker = Arc::new(Breaker::new());
        let (creations, groups) = write_queue::queue();
        let mut tasks = JoinSet::new();
        let (ids, commits) = (IdSequence::new(), CommitMetrics::new());
        let metrics = commits.clone();
        let writer = Writer { pool: own, breaker: breaker.clone(), ids, metrics };
        tasks.spawn(writer.run(groups));
        tasks.spawn(breaker::probe(connector, breaker.clone()));
        let queries = Queries::new(pool, breaker);
        Ok(Self { queries, creations, commits, _tasks: tasks })
    }

    /// The state that [`connect`](Self::connect) would find, and its errors, without any change.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect).
    pub async fn inspect(options: &Options) -> Result<Found, StoreError> {
        let connection = Connector::new(Target::parse(options)?).connect().await?;
        in_time(schema::inspect(&connection)).await
    }

    /// Creates or migrates the tables, and returns the state before. For an owner of the tables that does not grant
    /// these privileges to the serving role.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect).
    pub async fn migrate(options: &Options) -> Result<Found, StoreError> {
        let connection = Connector::new(Target::parse(options)?).connect().await?;
        let found = in_time(schema::inspect_for_owner(&connection)).await?;
        if found.would_change() {
            schema::migrate(&connection).await?;
        }
        Ok(found)
    }

    async fn write(
        &self,
        size: Size,
        users: Users,
        listener: Option<ChangeListener>,
    ) -> Result<Created, StoreError> {
        let request = CreateRequest { users, listener };
        self.creations.ask(size, |reply| (request, reply)).await
    }
}

/// Runs an inspection with a time limit.
async fn in_time<T>(
    inspection: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = |_| Err(StoreError::unavailable("the database did not answer within 5 s"));
    timeout(INSPECTION_TIMEOUT, inspection).await.unwrap_or_else(late)
}

/// Makes all connections. A pooler may allow fewer, and the others would wait forever.
async fn check_connections(pools: &[&Pool], wanted: usize) -> Result<(), StoreError> {
    let filled = try_join_all(pools.iter().map(|pool| pool.fill())).await;
    filled.map(drop).map_err(|error| {
        StoreError::unavailable(format!(
            "the pooler does not allow all {wanted} connections ({error}): raise its default_pool_size, set \
             pool_mode=transaction, or lower --store-connections"
        ))
    })
}

const GET: &str = "SELECT id, name, email, created_seconds, created_nanos, status
    FROM users WHERE id = $1";

const UPDATE: &str = "UPDATE users SET name = coalesce($2, name), email = coalesce($3, email)
    WHERE id = $1 RETURNING id, name, email, created_seconds, created_nanos, status";

impl UserStore for PostgresStore {
    async fn create_one(
        &self,
        user: NewUser,
        key: Option<IdempotencyKey>,
        listener: Option<ChangeListener>,
    ) -> Result<Arc<User>, StoreError> {
        match self.write(Size::ONE, Users::One(user, key), listener).await? {
            Created::One(user) => Ok(user),
            Created::Many(_) => {
                Err(StoreError::internal("the writer gave the answer of another call"))
            }
        }
    }

    async fn create_many(
        &self,
        users: Vec<NewUser>,
        part: Option<Part>,
        listener: Option<ChangeListener>,
    ) -> Result<Stored, StoreError> {
        match self.write(Size::of(&users), Users::Many(users, part), listener).await? {
            Created::Many(stored) => Ok(stored),
            Created::One(_) => {
                Err(StoreError::internal("the writer gave the answer of another call"))
            }
        }
    }

    async fn get(&self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        let values: [Value<'_>; 1] = [(&Uuid::from(id), Type::UUID)];
        let rows = self.queries.query(GET, &values, Retry::Reads).await?;
        rows::first(&rows)
    }

    async fn update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<Arc<User>>, StoreError> {
        let (id, name, email) = (Uuid::from(id), change.name(), change.email());
        let values: [Value<'_>; 3] = [(&id, Type::UUID), (&name, Type::TEXT), (&email, Type::TEXT)];
        let rows = self.queries.query(UPDATE, &values, Retry::Writes).await?;
        rows::first(&rows)
    }

    async fn extent(&self) -> Result<Extent, StoreError> {
        let sql =
            "SELECT (SELECT id FROM users WHERE place <= last_place ORDER BY place DESC LIMIT 1),
            present FROM user_sequence";
        let rows = self.queries.query(sql, &[], Retry::Reads).await?;
        let row = rows.first().ok_or_else(|| StoreError::corrupt("its sequence is missing"))?;
        rows::extent(row)
    }

    fn scan(
        &self,
        after: Option<UserId>,
        extent: Extent,
    ) -> impl Stream<Item = Result<Page, StoreError>> + Send {
        scan::scan(&self.queries, after, extent)
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let Queries { pool, breaker, .. } = self.queries.clone();
        vec![Box::new(StoreMetrics::new(pool, breaker, self.creations.clone(), &self.commits))]
    }

    /// Checked twice a second.
    fn availability(&self) -> watch::Receiver<bool> {
        self.queries.breaker.watch()
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

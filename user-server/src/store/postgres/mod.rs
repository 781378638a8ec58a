//! Users in PostgreSQL, or in what speaks its protocol: for many servers on one database.
//!
//! ```text
//!  creations ──> queue ──> one task: BEGIN; lock the sequence; a group; COMMIT
//!  get, update, extent ──> a connection of the pool each ──> one statement
//!  scan ──> a task ──> the same for each page, of half of the connections at the most
//!  every half second ──> a connection of its own ──> can it be written? ──> breaker ──> health
//! ```
//!
//! Users appear in order of their places, across servers: whoever creates some locks the one row of
//! `user_sequence`, which has the last place and the newest id, until they are committed. So creations of
//! one server are gathered, as they are for SQLite, and share that turn and its wait for the disk. A trigger
//! gives places to rows that other programs add, whatever ids those have.
//!
//! A call that is over cancels its statement, but lets a read of up to 2 s end, which keeps the connection.
//! Creations are cancelled when all of their calls are over.
//! While the database is away calls fail at once, and when it goes away those that wait for it.

mod breaker;
mod connection;
mod connector;
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
use self::metrics::StoreMetrics;
use self::pool::Pool;
use self::queries::{ATTEMPTS, Again, Queries};
use self::url::Target;
use self::writer::{Done, Job, What, Write, Writer};
use super::metrics::CommitMetrics;
use super::turns::{self, Queue, Size};
use super::{
    Creation, Extent, Found, IdSequence, IdempotencyKey, Known, Mark, PAGE_LEN, Packed, Page, Part,
    Progress, Remembered, StoreError, Stored, UserStore, forgotten, notify,
};
use crate::domain::{NewUser, User, UserChange, UserId};
use crate::store::ChangeListener;
use balafon::ClientTls;

/// How long a look at the database may take once there is a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// How to reach a database.
#[derive(Clone, Debug)]
pub struct Options {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE`, or whatever else
    /// libpq takes, such as several hosts, and `connect_timeout` for each of their addresses.
    pub url: String,
    /// With this connections are TLS, to the host that the certificate names, and `sslmode=disable` is
    /// an error. Without it that is what the URL says, and there is no TLS if it says nothing; an `sslmode`
    /// that would trust whoever answers is an error.
    pub tls: Option<ClientTls>,
    /// Connections at a time, besides one that creates users and one that looks whether the database
    /// is there.
    pub connections: usize,
}

/// A [`UserStore`] in PostgreSQL. Its tasks run on the runtime on which it was connected, and end
/// when it is dropped; that of a scan runs on the caller's runtime, of which there has to be one.
pub struct PostgresStore {
    queries: Queries,
    creations: Queue<Job>,
    commits: CommitMetrics,
    _tasks: JoinSet<()>,
}

impl PostgresStore {
    /// Connects, and brings the schema up to date; of servers that do so at once, one does. A database that
    /// can only be read will do, if its schema is up to date.
    ///
    /// # Errors
    ///
    /// Unavailable if the database cannot be reached; internal if the URL is wrong, if the schema is that
    /// of a newer version of this program, or if the role lacks a right that it needs.
    pub async fn connect(options: &Options) -> Result<Self, StoreError> {
        let connector = Arc::new(Connector::new(Target::parse(options)?));
        let pool = Pool::new(connector.clone(), options.connections);
        // Creations have a connection of their own: they do not queue for one while others queue for
        // them.
        let own = Pool::new(connector.clone(), 1);
        let session = pool.get().await?;
        if in_time(schema::inspect(session.connection())).await?.would_change() {
            schema::migrate(session.connection()).await?;
        }
        session.release();
        if connector.is_pooled() {
            enough(&[&pool, &own], options.connections + 2).await?;
        }

        let breaker = Arc::new(Breaker::new());
        let (creations, turns) = turns::queue();
        let mut tasks = JoinSet::new();
        let (ids, commits) = (IdSequence::new(), CommitMetrics::new());
        let metrics = commits.clone();
        let writer = Writer { pool: own, breaker: breaker.clone(), ids, metrics };
        tasks.spawn(writer.run(turns));
        tasks.spawn(breaker::probe(connector, breaker.clone()));
        let queries = Queries::new(pool, breaker);
        Ok(Self { queries, creations, commits, _tasks: tasks })
    }

    /// What [`connect`](Self::connect) would find, and all of its errors, without changing anything.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect).
    pub async fn inspect(options: &Options) -> Result<Found, StoreError> {
        let connection = Connector::new(Target::parse(options)?).connect().await?;
        in_time(schema::inspect(&connection)).await
    }

    /// Makes the tables, or brings them up to date, and gives what there was: for an owner of the tables
    /// who keeps the rights to do so from the role that serves.
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
        what: What,
        listener: Option<ChangeListener>,
    ) -> Result<Done, StoreError> {
        self.creations.ask(size, |reply| (Write { what, listener }, reply)).await
    }
}

/// What a look at the database finds, unless that takes too long.
async fn in_time<T>(look: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| Err(StoreError::unavailable("the database does not answer in time"));
    timeout(PATIENCE, look).await.unwrap_or_else(late)
}

/// Makes all connections: a pooler may have fewer for us, and the others would wait for ever.
async fn enough(pools: &[&Pool], wanted: usize) -> Result<(), StoreError> {
    let filled = try_join_all(pools.iter().map(|pool| pool.fill())).await;
    filled.map(drop).map_err(|error| {
        StoreError::unavailable(format!(
            "the pooler does not give all of {wanted} connections ({error}): raise its default_pool_size, \
             let it have pool_mode=transaction, or lower --store-connections"
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
        match self.write(Size::ONE, What::One(user, key), listener).await? {
            Done::One(user) => Ok(user),
            Done::Many(_) => Err(StoreError::internal("another answer was given")),
        }
    }

    async fn create_many(
        &self,
        users: Vec<NewUser>,
        part: Option<Part>,
        listener: Option<ChangeListener>,
    ) -> Result<Stored, StoreError> {
        match self.write(Size::of(&users), What::Many(users, part), listener).await? {
            Done::Many(stored) => Ok(stored),
            Done::One(_) => Err(StoreError::internal("another answer was given")),
        }
    }

    async fn get(&self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        let values: [Value<'_>; 1] = [(&Uuid::from(id), Type::UUID)];
        let rows = self.queries.query(GET, &values, Again::Reads).await?;
        rows::first(&rows)
    }

    async fn update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<Arc<User>>, StoreError> {
        let (id, name, email) = (Uuid::from(id), change.name(), change.email());
        let values: [Value<'_>; 3] = [(&id, Type::UUID), (&name, Type::TEXT), (&email, Type::TEXT)];
        let rows = self.queries.query(UPDATE, &values, Again::Writes).await?;
        rows::first(&rows)
    }

    async fn extent(&self) -> Result<Extent, StoreError> {
        let sql =
            "SELECT (SELECT id FROM users WHERE place <= last_place ORDER BY place DESC LIMIT 1),
            present FROM user_sequence";
        let rows = self.queries.query(sql, &[], Again::Reads).await?;
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

    /// Looked at twice a second.
    fn availability(&self) -> watch::Receiver<bool> {
        self.queries.breaker.watch()
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

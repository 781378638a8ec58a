//! Users in PostgreSQL, or in what speaks its protocol: for many servers on one database.
//!
//! ```text
//!  creations ──> queue ──> one task: BEGIN; lock the sequence; a group; COMMIT
//!  get, update, extent ──> a connection of the pool each ──> one statement
//!  scan ──> a task ──> the same for each page, of half of the connections at the most
//!  every half second ──> a connection of its own ──> SELECT 1 ──> breaker ──> health
//! ```
//!
//! Users appear in order of their ids, across servers: whoever creates some locks the one row of
//! `user_sequence`, which has the newest id, until they are committed. So creations of one server are
//! gathered, as they are for SQLite, and share that turn and its wait for the disk.
//!
//! A call that is over cancels its statement, but lets a read of up to 2 s end, which keeps the connection.
//! Creations are cancelled when all of their calls are over.
//! While the database is away calls fail at once, and when it goes away those that wait for it.

mod breaker;
mod connect;
mod error;
mod keys;
mod plan;
mod queries;
mod rows;
mod scan;
mod schema;
mod session;
mod tls;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use self::breaker::Breaker;
use self::queries::{ATTEMPTS, Again, Queries};
use self::tls::Tls;
use self::writer::{Done, Job, What, Write, Writer};
use super::availability::Availability;
use super::turns::{self, Queue, Size};
use super::{
    Creation, Extent, Found, IdSequence, IdempotencyKey, Known, Mark, PAGE_LEN, Packed, Page, Part,
    Progress, Remembered, Rest, StoreError, Stored, UserStore, forgotten, tell,
};
use crate::ClientTls;
use crate::users::domain::{NewUser, User, UserChange, UserId};
use crate::users::view::Changes as Told;

/// How long a look at the database may take: longer than it takes to connect.
const PATIENCE: Duration = Duration::from_secs(5);

/// How to reach a database.
#[derive(Clone, Debug)]
pub struct Options {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require`, or whatever else libpq takes.
    pub url: String,
    /// With this connections are TLS, to the host that the certificate names, and `sslmode=disable` is
    /// an error. Without it there is no TLS, and `sslmode=require` is one.
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
    _tasks: JoinSet<()>,
}

impl PostgresStore {
    /// Connects, and brings the schema up to date; of servers that do so at once, one does.
    ///
    /// # Errors
    ///
    /// Unavailable if the database cannot be reached; internal if the URL is wrong, or if the schema
    /// is that of a newer version of this program.
    pub async fn connect(options: &Options) -> Result<Self, StoreError> {
        let tls = Tls::of(options);
        let config = connect::config(options)?;
        let pool = connect::pool(&config, &tls, options.connections)?;
        let breaker = Arc::new(Breaker::new());
        let migrate = async {
            let mut client = pool.get().await.map_err(error::of_pool)?;
            schema::migrate(&mut client).await
        };
        breaker.guard(migrate).await?;

        let (creations, turns) = turns::queue();
        let mut tasks = JoinSet::new();
        // Creations have a connection of their own: they do not queue for one while others queue for
        // them.
        let own = connect::pool(&config, &tls, 1)?;
        let ids = IdSequence::new();
        let writer = Writer { pool: own, tls: tls.clone(), breaker: breaker.clone(), ids };
        tasks.spawn(writer.run(turns));
        tasks.spawn(breaker::probe(config, tls.clone(), breaker.clone()));
        let queries = Queries::new(pool, options.connections, tls, breaker);
        Ok(Self { queries, creations, _tasks: tasks })
    }

    /// What [`connect`](Self::connect) would find, and all of its errors, without changing anything.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect); unavailable also if it takes longer than some seconds.
    pub async fn inspect(options: &Options) -> Result<Found, StoreError> {
        let tls = Tls::of(options);
        let pool = connect::pool(&connect::config(options)?, &tls, 1)?;
        let inspect = async { schema::inspect(&pool.get().await.map_err(error::of_pool)?).await };
        let late = |_| Err(StoreError::unavailable("the database does not answer in time"));
        timeout(PATIENCE, inspect).await.unwrap_or_else(late)
    }

    async fn write(&self, size: Size, what: What, told: Option<Told>) -> Result<Done, StoreError> {
        self.creations.ask(size, |reply| (Write { what, told }, reply)).await
    }
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
        told: Option<Told>,
    ) -> Result<Arc<User>, StoreError> {
        match self.write(Size::ONE, What::One(user, key), told).await? {
            Done::One(user) => Ok(user),
            Done::Many(_) => Err(StoreError::internal("another answer was given")),
        }
    }

    async fn create_many(
        &self,
        users: Vec<NewUser>,
        part: Option<Part>,
        told: Option<Told>,
    ) -> Result<Stored, StoreError> {
        match self.write(Size::of(&users), What::Many(users, part), told).await? {
            Done::Many(stored) => Ok(stored),
            Done::One(_) => Err(StoreError::internal("another answer was given")),
        }
    }

    async fn get(&self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        let rows = self.queries.query(GET, &[&Uuid::from(id)], Again::Reads).await?;
        rows::first(&rows)
    }

    async fn update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<Arc<User>>, StoreError> {
        let values: [&(dyn ToSql + Sync); 3] = [&Uuid::from(id), &change.name(), &change.email()];
        let rows = self.queries.query(UPDATE, &values, Again::Writes).await?;
        rows::first(&rows)
    }

    async fn extent(&self) -> Result<Extent, StoreError> {
        let sql = "SELECT newest, total FROM user_sequence";
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

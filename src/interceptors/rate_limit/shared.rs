//! Windows that several instances share, in Redis.
//!
//! ```text
//!              it counts a call of ours, by the script
//!   trouble ---------------------------------------> there
//!     ^  <------------------------------------------
//!     |    a call got no answer in time, or an error
//!     '-- a try each second
//! ```
//!
//! While there is trouble no call waits for Redis.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, RedisError, Script};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::trouble::{Kind, Told, Trouble};
use crate::interceptors::client::Client;
use crate::rate::{Rate, Taken};
use crate::{ClientTls, Method};

/// Between two tries, and the least time that limits stay local: a Redis that answers now and then
/// would otherwise cost every other call its whole wait.
const RETRY: Duration = Duration::from_secs(1);

/// For a connection to be made and the script to be loaded; nobody waits for it but at the start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The window of the call that is counted to see whether Redis counts: it is there no longer than this.
const PROBE_PERIOD: Duration = Duration::from_millis(1);

/// Counts a call in Redis.
pub(super) const SCRIPT: &str = include_str!("window.lua");

/// Before the keys, which are of no use to others.
const PREFIX: &str = "balafon:rate";

/// Limits that all instances hold together that have the same Redis, for
/// [`RateLimit::share`](super::RateLimit::share).
///
/// A call waits for Redis, but not for long. Where it does not answer in time, or cannot count, and
/// from then on until it does, each instance limits for itself, and the log says so once, under the
/// target `balafon::rate_limit`. A cluster and a sentinel cannot count. The clock is that of Redis. A key is there for two periods after the last call
/// that it counts.
///
/// It is watched over by a task of the runtime in which it is made, for as long as it is there.
pub struct SharedLimits {
    link: Arc<Link>,
    keeper: AbortHandle,
}

struct Link {
    redis: RedisUrl,
    script: Script,
    wait: Duration,
    /// `None` while Redis is away. The number tells one connection from the next.
    connection: RwLock<(u64, Option<MultiplexedConnection>)>,
    lost: Notify,
    /// Since the last call that was counted.
    trouble: Mutex<Option<Trouble>>,
    told: Mutex<Told>,
}

impl SharedLimits {
    /// Connects to this Redis; that it is away is no error, it is tried again until it is there. A
    /// call will wait for it for at most `wait`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn redis(redis: RedisUrl, wait: Duration) -> Self {
        let script = Script::new(SCRIPT);
        let connection = RwLock::new((0, None));
        let (lost, trouble, told) = (Notify::new(), Mutex::default(), Mutex::default());
        let link = Arc::new(Link { redis, script, wait, connection, lost, trouble, told });
        // So that the first calls are counted where all others will be.
        match link.connect().await {
            Ok(connection) => link.found(connection),
            Err(trouble) => link.complain(trouble),
        }
        let keeper = tokio::spawn(link.clone().keep()).abort_handle();
        Self { link, keeper }
    }

    /// Whether Redis answers, and counts.
    pub fn is_there(&self) -> bool {
        self.link.current().1.is_some()
    }

    /// Why it does not, in words for an operator.
    pub fn trouble(&self) -> Option<String> {
        self.link.trouble().map(|trouble| trouble.to_string())
    }

    /// Whether it never will: it is a cluster, or a sentinel.
    pub fn is_unsupported(&self) -> bool {
        self.link.trouble().is_some_and(|trouble| trouble.is_unsupported())
    }

    /// Counts a call, or says how long the client has to wait for the next. `None` if Redis does
    /// not.
    pub(super) async fn take(
        &self,
        method: &Method,
        client: Client<'_>,
        rate: Rate,
    ) -> Option<Taken> {
        let (number, connection) = self.link.current();
        let mut connection = connection?;
        let counted = self.link.count(&mut connection, method.path, &client, rate);
        let trouble = match timeout(self.link.wait, counted).await {
            Ok(Ok(taken)) => return Some(taken),
            Ok(Err(error)) => error.into(),
            Err(_) => no_answer(self.link.wait),
        };
        self.link.lose(number, trouble);
        None
    }
}

fn no_answer(within: Duration) -> Trouble {
    Trouble::new(Kind::Away, format_args!("no answer within {within:?}"))
}

impl Link {
    fn current(&self) -> (u64, Option<MultiplexedConnection>) {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn count(
        &self,
        connection: &mut MultiplexedConnection,
        path: &str,
        client: &impl fmt::Display,
        rate: Rate,
    ) -> Result<Taken, RedisError> {
        // Instances with other periods have other windows: they would misread each other's.
        let micros = rate.micros();
        let mut call = self.script.key(format!("{PREFIX}:{path}:{micros}:{client}"));
        let wait: u64 = call.arg(rate.calls).arg(micros).invoke_async(connection).await?;
        Ok(if wait == 0 { Ok(()) } else { Err(Duration::from_micros(wait)) })
    }

    /// Only the first that finds a connection to be lost says so.
    fn lose(&self, number: u64, trouble: Trouble) {
        let mut current = self.connection.write().unwrap_or_else(PoisonError::into_inner);
        if current.0 == number && current.1.take().is_some() {
            drop(current);
            self.complain(trouble);
            self.lost.notify_one();
        }
    }

    fn complain(&self, trouble: Trouble) {
        let (kind, problem) = (trouble.kind, &trouble.problem);
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).of_trouble(kind) {
            let why = match kind {
                Kind::Away => "Redis is away: until it is back".to_owned(),
                kind => format!("Redis cannot count: {kind}. Until it can"),
            };
            tracing::warn!(
                target: "balafon::rate_limit",
                redis = ?self.redis,
                problem,
                "{why}, this instance limits for itself"
            );
        }
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }

    /// Sees to it that there is a connection, for ever.
    async fn keep(self: Arc<Self>) {
        loop {
            while self.current().1.is_some() {
                self.lost.notified().await;
            }
            sleep(RETRY).await;
            match self.connect().await {
                Ok(connection) => self.found(connection),
                Err(trouble) => self.complain(trouble),
            }
        }
    }

    fn found(&self, connection: MultiplexedConnection) {
        let mut current = self.connection.write().unwrap_or_else(PoisonError::into_inner);
        *current = (current.0 + 1, Some(connection));
        drop(current);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).of_sharing() {
            let redis = &self.redis;
            tracing::info!(target: "balafon::rate_limit", ?redis, "limits are shared by Redis");
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Trouble> {
        // Times are limited here, for all of it together.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connect = async {
            let mut connection = self.redis.connect(config).await?;
            if let Some(kind) = unsupported(&mut connection).await {
                return Err(Trouble::new(kind, "INFO server says so"));
            }
            self.script.load_async(&mut connection).await?;
            // A replica loads the script, and so does one that is out of memory: what they refuse is to
            // count.
            let rate = Rate { calls: 1, period: PROBE_PERIOD };
            let _ = self.count(&mut connection, "", &"", rate).await?;
            Ok(connection)
        };
        match timeout(CONNECT_TIMEOUT, connect).await {
            Ok(connected) => connected,
            Err(_) => Err(no_answer(CONNECT_TIMEOUT)),
        }
    }
}

/// A kind of Redis that cannot share limits, if it is one. That it does not say is no fault: users may
/// be denied to ask.
async fn unsupported(connection: &mut MultiplexedConnection) -> Option<Kind> {
    let info: Result<String, _> = redis::cmd("INFO").arg("server").query_async(connection).await;
    let info = info.unwrap_or_default();
    match info.lines().find_map(|line| line.strip_prefix("redis_mode:"))?.trim() {
        "cluster" => Some(Kind::Cluster),
        "sentinel" => Some(Kind::Sentinel),
        _ => None,
    }
}

impl Drop for SharedLimits {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl fmt::Debug for SharedLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLimits").field("redis", &self.link.redis).finish_non_exhaustive()
    }
}

/// Where a Redis is, such as `redis://user:password@host:6379/0`, `rediss://…` for one with TLS that
/// has to be [trusted](Self::trust), or `redis+unix:///run/redis.sock`.
#[derive(Clone)]
pub struct RedisUrl {
    client: redis::Client,
    /// `None` is in the clear.
    tls: Option<ClientTls>,
}

impl RedisUrl {
    /// Whether it is one of `rediss`.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Says who has to have signed the certificate of Redis, if it is one of `rediss`: until then
    /// nobody is trusted, and Redis away.
    #[must_use]
    pub fn trust(mut self, tls: ClientTls) -> Self {
        self.tls = self.tls.map(|_| tls);
        self
    }

    async fn connect(
        &self,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let info = self.client.get_connection_info();
        let (Some(tls), ConnectionAddr::Tcp(host, port)) = (&self.tls, info.addr()) else {
            return self.client.get_multiplexed_async_connection_with_config(&config).await;
        };
        let stream = tls.connect(host, *port).await?;
        let settings = info.redis_settings();
        let (connection, driver) =
            MultiplexedConnection::new_with_config(settings, stream, config).await?;
        // It ends with the connection.
        tokio::spawn(driver);
        Ok(connection)
    }
}

impl FromStr for RedisUrl {
    type Err = InvalidRedis;

    fn from_str(url: &str) -> Result<Self, InvalidRedis> {
        // The TLS is ours; for all else it is a URL like others.
        let (url, tls) = match url.strip_prefix("rediss://") {
            Some(rest) => (format!("redis://{rest}"), Some(ClientTls::without_authorities())),
            None => (url.to_owned(), None),
        };
        let client = redis::Client::open(url).map_err(InvalidRedis)?;
        Ok(Self { client, tls })
    }
}

/// Without the password.
impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.client.get_connection_info().addr(), f)
    }
}

/// A text that is no [`RedisUrl`].
#[derive(Debug)]
pub struct InvalidRedis(RedisError);

impl fmt::Display for InvalidRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: wanted a URL such as redis://user:password@host:6379/0 or \
             redis+unix:///run/redis.sock",
            self.0
        )
    }
}

impl std::error::Error for InvalidRedis {}

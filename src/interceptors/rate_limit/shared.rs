//! Sliding windows in Redis, which several instances share.
//!
//! ```text
//!                 the script has counted a call
//!   unavailable -------------------------------------> available
//!     ^   <-------------------------------------------
//!     |     a call got no answer in time, or an error
//!     '-- one retry each second
//! ```
//!
//! While Redis is unavailable, no call waits for it.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, RedisError, Script};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::trouble::{Kind, LogState, Trouble};
use crate::interceptors::client::Client;
use crate::rate::{Rate, Taken};
use crate::{ClientTls, Method};

/// The time between two retries, and the least time that limits stay local. With a Redis that answers
/// now and then, every other call would otherwise wait for the whole time limit.
const RETRY: Duration = Duration::from_secs(1);

/// The time limit for a connection and for loading the script. Only the start of the server waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The period of the call that tests whether Redis counts. Its key expires after this time.
const PROBE_PERIOD: Duration = Duration::from_millis(1);

/// Counts a call in Redis.
pub(super) const SCRIPT: &str = include_str!("window.lua");

/// The prefix of the keys.
const PREFIX: &str = "balafon:rate";

/// Limits that all instances with the same Redis share, for
/// [`RateLimit::share`](super::RateLimit::share).
///
/// A call waits for Redis, up to a limit. If Redis does not answer in time, or cannot count, each
/// instance limits by itself until Redis counts again. Each change is logged once, under the target
/// `balafon::rate_limit`. Redis Cluster and Redis Sentinel are not supported. The clock is that of
/// Redis. A key expires two periods after the last call that it counts.
///
/// A task of the current runtime keeps the connection, until this is dropped.
pub struct SharedLimits {
    link: Arc<Link>,
    keeper: AbortHandle,
}

struct Link {
    redis: RedisUrl,
    script: Script,
    wait: Duration,
    /// `None` while Redis is unavailable. The number identifies the connection.
    connection: RwLock<(u64, Option<MultiplexedConnection>)>,
    lost: Notify,
    /// The problem since the last counted call.
    trouble: Mutex<Option<Trouble>>,
    log: Mutex<LogState>,
}

impl SharedLimits {
    /// Connects to this Redis. If it is unavailable, that is no error: the connection is retried. A call
    /// waits for Redis for at most `wait`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn redis(redis: RedisUrl, wait: Duration) -> Self {
        let script = Script::new(SCRIPT);
        let connection = RwLock::new((0, None));
        let (lost, trouble, log) = (Notify::new(), Mutex::default(), Mutex::default());
        let link = Arc::new(Link { redis, script, wait, connection, lost, trouble, log });
        // So that Redis counts the first calls, too.
        match link.connect().await {
            Ok(connection) => link.found(connection),
            Err(trouble) => link.report(trouble),
        }
        let keeper = tokio::spawn(link.clone().keep()).abort_handle();
        Self { link, keeper }
    }

    /// Whether Redis answers and counts.
    pub fn is_there(&self) -> bool {
        self.link.current().1.is_some()
    }

    /// The reason why it does not, for an operator.
    pub fn trouble(&self) -> Option<String> {
        self.link.trouble().map(|trouble| trouble.to_string())
    }

    /// Whether it cannot ever share limits: it is a cluster or a sentinel.
    pub fn is_unsupported(&self) -> bool {
        self.link.trouble().is_some_and(|trouble| trouble.is_unsupported())
    }

    /// Counts a call, or returns the time that the client has to wait for the next. `None` if Redis did
    /// not count.
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
        // The key has the period: instances with another one would misread the window.
        let micros = rate.micros();
        let mut call = self.script.key(format!("{PREFIX}:{path}:{micros}:{client}"));
        let wait: u64 = call.arg(rate.calls).arg(micros).invoke_async(connection).await?;
        Ok(if wait == 0 { Ok(()) } else { Err(Duration::from_micros(wait)) })
    }

    /// Only the first call that finds the connection lost logs it.
    fn lose(&self, number: u64, trouble: Trouble) {
        let mut current = self.connection.write().unwrap_or_else(PoisonError::into_inner);
        if current.0 == number && current.1.take().is_some() {
            drop(current);
            self.report(trouble);
            self.lost.notify_one();
        }
    }

    fn report(&self, trouble: Trouble) {
        let (kind, problem) = (trouble.kind, &trouble.problem);
        if self.log.lock().unwrap_or_else(PoisonError::into_inner).should_log_problem(kind) {
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

    /// Reconnects for ever.
    async fn keep(self: Arc<Self>) {
        loop {
            while self.current().1.is_some() {
                self.lost.notified().await;
            }
            sleep(RETRY).await;
            match self.connect().await {
                Ok(connection) => self.found(connection),
                Err(trouble) => self.report(trouble),
            }
        }
    }

    fn found(&self, connection: MultiplexedConnection) {
        let mut current = self.connection.write().unwrap_or_else(PoisonError::into_inner);
        *current = (current.0 + 1, Some(connection));
        drop(current);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.log.lock().unwrap_or_else(PoisonError::into_inner).should_log_sharing() {
            let redis = &self.redis;
            tracing::info!(target: "balafon::rate_limit", ?redis, "limits are shared by Redis");
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Trouble> {
        // One time limit for all steps is set below.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connect = async {
            let mut connection = self.redis.connect(config).await?;
            if let Some(kind) = unsupported(&mut connection).await {
                return Err(Trouble::new(kind, "INFO server says so"));
            }
            self.script.load_async(&mut connection).await?;
            // A replica loads the script but does not count, and so does a Redis that is out of memory.
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

/// The kind of a Redis that cannot share limits. `None` also if it refuses to answer: the user may lack
/// the right to ask.
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

/// The URL of a Redis, such as `redis://user:password@host:6379/0` or `redis+unix:///run/redis.sock`. A
/// URL of `rediss` (TLS) needs a trust store: see [`trust`](Self::trust).
#[derive(Clone)]
pub struct RedisUrl {
    client: redis::Client,
    /// `None` is without TLS.
    tls: Option<ClientTls>,
}

impl RedisUrl {
    /// Whether it is a URL of `rediss`.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Sets the trust store for a URL of `rediss`. Without one no certificate is trusted, and Redis is
    /// unavailable.
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
        // This crate does the TLS, so the client gets a URL without it.
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

/// A text that is not a [`RedisUrl`].
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

impl std::error::Error for InvalidRedis {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

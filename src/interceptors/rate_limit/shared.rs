//! Windows that several instances share, in Redis.
//!
//! ```text
//!             it answers, with the script loaded
//!   away ---------------------------------------> there
//!     ^  <---------------------------------------
//!     |    a call got no answer in time, or an error
//!     '-- a try each second
//! ```
//!
//! While Redis is away no call waits for it.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, RedisError, Script};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::client::Client;
use super::window::{Rate, Taken};
use crate::{ClientTls, Method};

/// Between two tries, and the least time that limits stay local: a Redis that answers now and then
/// would otherwise cost every other call its whole wait.
const RETRY: Duration = Duration::from_secs(1);

/// For a connection to be made and the script to be loaded; nobody waits for it but at the start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Counts a call in Redis.
const SCRIPT: &str = include_str!("window.lua");

/// Before the keys, which are of no use to others.
const PREFIX: &str = "balafon:rate";

/// Limits that all instances hold together that have the same Redis, for
/// [`RateLimit::share`](super::RateLimit::share).
///
/// A call waits for Redis, but not for long. Where it does not answer in time, and from then on
/// until it does, each instance limits for itself, and the log says so, under the target
/// `balafon::rate_limit`. The clock is that of Redis. A key is there for two periods after the last call
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
        let link = Arc::new(Link { redis, script, wait, connection, lost: Notify::new() });
        // So that the first calls are counted where all others will be.
        match link.connect().await {
            Ok(connection) => link.found(connection),
            Err(problem) => link.complain(&problem),
        }
        let keeper = tokio::spawn(link.clone().keep()).abort_handle();
        Self { link, keeper }
    }

    /// Whether Redis answers.
    pub fn is_there(&self) -> bool {
        self.link.current().1.is_some()
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
        // Instances with other periods have other windows: they would misread each other's.
        let micros = rate.micros();
        let mut call = self.link.script.key(format!("{PREFIX}:{}:{micros}:{client}", method.path));
        call.arg(rate.calls).arg(micros);
        let problem = match timeout(self.link.wait, call.invoke_async(&mut connection)).await {
            Ok(Ok(0)) => return Some(Ok(())),
            Ok(Ok(micros)) => return Some(Err(Duration::from_micros(micros))),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", self.link.wait),
        };
        self.link.lose(number, &problem);
        None
    }
}

impl Link {
    fn current(&self) -> (u64, Option<MultiplexedConnection>) {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Only the first that finds a connection to be lost says so.
    fn lose(&self, number: u64, problem: &str) {
        let mut current = self.connection.write().unwrap_or_else(PoisonError::into_inner);
        if current.0 == number && current.1.take().is_some() {
            drop(current);
            self.complain(problem);
            self.lost.notify_one();
        }
    }

    fn complain(&self, problem: &str) {
        let redis = &self.redis;
        tracing::warn!(
            target: "balafon::rate_limit",
            ?redis,
            problem,
            "Redis is away: until it is back, this instance limits for itself"
        );
    }

    /// Sees to it that there is a connection, for ever.
    async fn keep(self: Arc<Self>) {
        loop {
            while self.current().1.is_some() {
                self.lost.notified().await;
            }
            sleep(RETRY).await;
            if let Ok(connection) = self.connect().await {
                self.found(connection);
            }
        }
    }

    fn found(&self, connection: MultiplexedConnection) {
        let mut current = self.connection.write().unwrap_or_else(PoisonError::into_inner);
        *current = (current.0 + 1, Some(connection));
        drop(current);
        let redis = &self.redis;
        tracing::info!(target: "balafon::rate_limit", ?redis, "limits are shared by Redis");
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        // Times are limited here, for all of it together.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connect = async {
            let mut connection = self.redis.connect(config).await?;
            self.script.load_async(&mut connection).await?;
            Ok(connection)
        };
        match timeout(CONNECT_TIMEOUT, connect).await {
            Ok(connected) => connected.map_err(|error: RedisError| error.to_string()),
            Err(_) => Err(format!("no answer within {CONNECT_TIMEOUT:?}")),
        }
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
            Some(rest) => (format!("redis://{rest}"), Some(ClientTls::trusting_nobody())),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::hash::{BuildHasher, RandomState};
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};

    use redis::{Commands, Connection};

    use super::super::window::Window;
    use super::*;

    /// A Redis on a socket in a folder of its own.
    struct Server {
        folder: PathBuf,
        child: Child,
    }

    impl Server {
        /// `None` where it is not installed. Where `CI` is set it has to be.
        fn start() -> Option<(Self, Connection)> {
            let folder = std::env::temp_dir().join(format!("window-{:x}", seed()));
            std::fs::create_dir(&folder).unwrap();
            let socket = folder.join("redis.sock");
            let spawned = Command::new("redis-server")
                .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
                .arg(&socket)
                .stdout(Stdio::null())
                .spawn();
            let Ok(child) = spawned else {
                assert!(std::env::var_os("CI").is_none(), "wanted redis-server");
                eprintln!("skipped: redis-server is not installed");
                return None;
            };
            let mut server = Self { folder, child };
            let client = redis::Client::open(format!("redis+unix://{}", socket.display())).unwrap();
            loop {
                if let Ok(connection) = client.get_connection() {
                    return Some((server, connection));
                }
                assert!(server.child.try_wait().unwrap().is_none(), "redis-server has ended");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    /// The script on a clock that the test sets, with a key that outlives the test.
    fn script() -> Script {
        let mut script = SCRIPT.to_owned();
        for (real, tested) in [
            ("redis.call('TIME')", "{ 0, ARGV[3] }"),
            ("math.ceil((over - now) / 1000)", "3600000"),
        ] {
            assert_eq!(script.matches(real).count(), 1, "{real}");
            script = script.replace(real, tested);
        }
        Script::new(&script)
    }

    /// Both windows, which are to agree. Times are in microseconds.
    struct Both {
        redis: Connection,
        script: Script,
        window: Window,
    }

    impl Both {
        fn set(&mut self, window: Window) {
            let Window { over, previous, current } = window;
            let fields =
                [("over", over), ("previous", previous.into()), ("current", current.into())];
            let () = self.redis.del("window").unwrap();
            let () = self.redis.hset_multiple("window", &fields).unwrap();
            self.window = Window { over: over * 1000, ..window };
        }

        /// How long to wait, or nothing.
        fn take(&mut self, calls: u32, period: u64, now: u64) -> u64 {
            let before = self.window;
            let rate = Rate { calls, period: Duration::from_micros(period) };
            let taken = self.window.take(rate, now * 1000);
            // Who waits in whole microseconds waits for the next one.
            let wait = taken.err().map_or(0, |wait| wait.as_nanos().div_ceil(1000) as u64);
            let mut call = self.script.key("window");
            let call = call.arg(calls).arg(period).arg(now);
            let in_redis: u64 = call.invoke(&mut self.redis).unwrap();
            let case = format!("{calls} in {period}, at {now}, of {before:?}");
            assert_eq!(wait, in_redis, "{case}");
            let fields = ["over", "previous", "current"];
            let state: [Option<u64>; 3] = self.redis.hmget("window", &fields[..]).unwrap();
            let Window { over, previous, current } = self.window;
            let expected = [over / 1000, previous.into(), current.into()];
            assert_eq!(state.map(Option::unwrap_or_default), expected, "{case}");
            wait
        }
    }

    /// Another one each time.
    fn seed() -> u64 {
        RandomState::new().hash_one(std::process::id())
    }

    /// SplitMix64.
    struct Random(u64);

    impl Random {
        /// Says its seed, for a test that fails.
        fn new() -> Self {
            let seed = seed();
            eprintln!("seed {seed:#x}");
            Self(seed)
        }

        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % end.max(1)
        }

        fn of<T: Copy>(&mut self, values: &[T]) -> T {
            values[self.below(values.len() as u64) as usize]
        }
    }

    const CALLS: [u32; 9] = [0, 1, 2, 3, 7, 100, 1_000_003, 1 << 31, u32::MAX];

    /// From a microsecond to the longest period that there is.
    const PERIODS: [u64; 10] = [
        1,
        2,
        3,
        7,
        1000,
        999_999,
        60_000_000,
        86_400_000_000,
        31_536_000_000_000,
        u64::MAX / 8 / 1000,
    ];

    #[test]
    fn rate_limit_windows_agree_over_random_traces() {
        let Some((_server, redis)) = Server::start() else { return };
        let mut both = Both { redis, script: script(), window: Window::default() };
        let mut random = Random::new();
        for _ in 0..150 {
            let (calls, period) = (random.of(&CALLS), random.of(&PERIODS));
            let mut now = 1_700_000_000_000_000;
            both.set(Window::default());
            for _ in 0..50 {
                let wait = both.take(calls, period, now);
                let step = period / u64::from(calls.max(1));
                now += match random.below(9) {
                    0 => 0,
                    1 => 1,
                    2 => wait,
                    3 => wait.saturating_sub(1),
                    4 => step,
                    5 => random.below(2 * step),
                    6 => random.below(3 * period),
                    7 => period,
                    _ => 2 * period,
                };
                // The clock is set back, and the longest trace does not leave its range.
                let back = random.of(&[0, 0, 0, 0, 0, 0, 1, period, 3 * period]);
                now = now.saturating_sub(back).clamp(1_600_000_000_000_000, 1_900_000_000_000_000);
            }
        }
    }

    #[test]
    fn rate_limit_windows_agree_where_doubles_are_too_short() {
        let Some((_server, redis)) = Server::start() else { return };
        let mut both = Both { redis, script: script(), window: Window::default() };
        let now = 1_700_000_000_000_000;
        for (calls, over, previous, current) in [
            (1_000_003, 5_441_441_784_697_127, 472_164, 887_849),
            (u32::MAX, 6_311_686_018_427_386, 820_085_143, 3_742_079_369),
            (1 << 31, 6_311_686_018_427_386, 1_471_464_135, 1_023_598_848),
        ] {
            both.set(Window { over, previous, current });
            both.take(calls, PERIODS[PERIODS.len() - 1], now);
        }
    }

    #[test]
    fn rate_limit_windows_agree_on_any_counts() {
        let Some((_server, redis)) = Server::start() else { return };
        let mut both = Both { redis, script: script(), window: Window::default() };
        let mut random = Random::new();
        for _ in 0..5000 {
            let (calls, period) = (random.of(&CALLS), random.of(&PERIODS));
            let now = 1_700_000_000_000_000;
            let count = |random: &mut Random| random.below(u64::from(calls) + 1) as u32;
            let [previous, current] = [count(&mut random), count(&mut random)];
            // At the boundaries of the window, at the moment when a call fits, and anywhere.
            let rest = (u128::from(calls - current) * u128::from(period)
                / u128::from(previous.max(1))) as u64;
            let until = random.of(&[0, 1, period, 2 * period, period + rest.min(period)]);
            let off = random.of(&[0, 0, 1, 2]);
            let over = match random.below(3) {
                0 => now + random.below(2 * period + 3),
                1 => now + until + off,
                _ => (now + until).saturating_sub(off),
            };
            both.set(Window { over, previous, current });
            both.take(calls, period, now);
        }
    }
}

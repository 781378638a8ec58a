//! The window in memory (`rate/window.rs`) and the one in Redis (`window.lua`) are the same.

#![allow(clippy::unwrap_used)]

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::{Commands, Connection, Script};

use super::shared::SCRIPT;
use crate::rate::{Rate, Window};

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
    for (real, tested) in
        [("redis.call('TIME')", "{ 0, ARGV[3] }"), ("math.ceil((over - now) / 1000)", "3600000")]
    {
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
        let fields = [("over", over), ("previous", previous.into()), ("current", current.into())];
        let () = self.redis.del("window").unwrap();
        let () = self.redis.hset_multiple("window", &fields).unwrap();
        self.window = Window { over: over * 1000, ..window };
    }

    /// The time to wait, or 0.
    fn take(&mut self, calls: u32, period: u64, now: u64) -> u64 {
        let before = self.window;
        let rate = Rate { calls, period: Duration::from_micros(period) };
        let taken = self.window.take(rate, now * 1000);
        // Whole microseconds are rounded up.
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
        let rest =
            (u128::from(calls - current) * u128::from(period) / u128::from(previous.max(1))) as u64;
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

//! What it takes to have users on a disk: `cargo bench --bench stores`.
//!
//! `user-server`, built as releases are, on its two stores that need nothing else, memory and SQLite:
//! both are up and are asked by turns, over TCP. It fails if SQLite misses one of the [bars](BARS).
//!
//! `-- --users N --seconds N --rounds N` sets how many users there are to scan, how long a round of
//! creations is, and how often each is measured. Needs Linux and strace.

mod client;
#[path = "../tests/it/support/folder.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)] // It is shared with the tests.
mod folder;
#[path = "../tests/it/support/program.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod program;

use std::fs::{read_to_string, write};
use std::iter::repeat_n;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use balafon::grpc::frame::encode;
use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use user_server::pb::{CreateUserRequest, user_service};

use self::client::{Call, Client};
use self::folder::{Folder, text};
use self::program::{Running, user_server};

/// What SQLite has to reach, whatever the disk. The rates are shares of the memory store's, whose
/// users are encoded from where they are: it scans twice as fast as when a scan had to reach 40 %.
const BARS: Bars =
    Bars { create: 1.0 / 3.0, creations_per_fsync: 20.0, scan: 0.2, scan_memory: 64 };

struct Bars {
    create: f64,
    creations_per_fsync: f64,
    scan: f64,
    /// What a scan may add to the memory of a server that has just been started, in MiB.
    scan_memory: u64,
}

/// Calls in flight, on some connections.
const CONNECTIONS: usize = 8;
const BATCH: usize = 32;

/// Users of one CreateUsers stream, as many as fit into the window of a stream.
const CHUNK: usize = 4000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::from_args();
    let mut report = Report::default();
    create(&options, &mut report).await;
    fsyncs(&options, &mut report).await;
    scan(&options, &mut report).await;
    report.exit_code()
}

struct Options {
    users: usize,
    time: Duration,
    rounds: usize,
}

impl Options {
    fn from_args() -> Self {
        let mut options = Self { users: 1_000_000, time: Duration::from_secs(3), rounds: 5 };
        // Which cargo adds.
        let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
        while let Some(flag) = args.next() {
            let value = args.next().and_then(|value| value.parse().ok());
            match (&*flag, value) {
                ("--users", Some(users)) => options.users = users,
                ("--seconds", Some(seconds)) => options.time = Duration::from_secs(seconds as u64),
                ("--rounds", Some(rounds)) if rounds > 0 => options.rounds = rounds,
                _ => panic!("usage: stores [--users N] [--seconds N] [--rounds N]"),
            }
        }
        options
    }
}

/// CreateUser, answered when it is stored: with SQLite, when the disk has it.
async fn create(options: &Options, report: &mut Report) {
    let folder = disk();
    let stores = ["memory:".to_owned(), sqlite(&folder)].map(|store| start(user_server(), &store));
    let call = Arc::new(call(user_service::CREATE_USER.path, 1));
    let mut rates = Rates::default();
    for _ in 0..options.rounds {
        for (server, rates) in stores.iter().zip(&mut rates.0) {
            let (calls, time) = load(server, &call, options.time).await;
            rates.push(calls / time.as_secs_f64());
        }
    }
    report.rates(
        &format!("CreateUser, {} calls in flight", CONNECTIONS * BATCH),
        &rates,
        BARS.create,
    );
}

/// How many creations share an fsync. Not in the same run: to be counted slows each down.
async fn fsyncs(options: &Options, report: &mut Report) {
    let folder = disk();
    let summary = folder.path("fsyncs");
    let server = user_server();
    let mut strace = Command::new("strace");
    strace.args(["-f", "--seccomp-bpf", "-c", "-e", "trace=fsync,fdatasync", "-o"]);
    strace.arg(&summary).arg(server.get_program());
    let mut strace = start(strace, &sqlite(&folder));
    let call = Arc::new(call(user_service::CREATE_USER.path, 1));
    let (calls, _) = load(&strace, &call, options.time).await;

    let pid = strace.child.id();
    let server = read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("this is Linux");
    let ended = Command::new("kill").arg(server.trim()).status();
    assert!(ended.is_ok_and(|it| it.success()), "there is no server to end");
    strace.child.wait().expect("strace ends with the server");
    let summary = read_to_string(summary).expect("strace counts");
    let total = summary.lines().find(|line| line.ends_with("total")).expect("there are fsyncs");
    // Percents, seconds, microseconds of each, and then the count.
    let fsyncs = total.split_whitespace().nth(3).and_then(|it| it.parse::<f64>().ok());
    let shared = calls / fsyncs.expect("a count");
    report.line(
        &format!("{shared:.0} creations share an fsync"),
        &format!("at least {}", BARS.creations_per_fsync),
        shared >= BARS.creations_per_fsync,
    );
}

/// GetAllUsers, by one client that reads as fast as it can.
async fn scan(options: &Options, report: &mut Report) {
    let folder = disk();
    let sqlite = sqlite(&folder);
    let memory = start(user_server(), "memory:");
    fill(&memory, options.users).await;
    {
        let mut server = start(user_server(), &sqlite);
        fill(&server, options.users).await;
        server.signal("TERM");
        server.child.wait().expect("it ends");
    }
    // As it is at its start: what its memory is compared with.
    let stores = [memory, start(user_server(), &sqlite)];
    let pid = stores[1].child.id();
    // Makes what it has now its peak (proc_pid_clear_refs(5)).
    write(format!("/proc/{pid}/clear_refs"), "5").expect("this is Linux");
    let before = stores[1].memory("VmRSS") / 1024;

    let all = Call::new(user_service::GET_ALL_USERS.path, &[0; 5]);
    let mut rates = Rates::default();
    for _ in 0..options.rounds {
        for (server, rates) in stores.iter().zip(&mut rates.0) {
            let mut client = open(server, &all.path).await;
            let started = Instant::now();
            client.calls([&all]).await;
            rates.push(options.users as f64 / started.elapsed().as_secs_f64());
        }
    }
    let name = format!("GetAllUsers, {} users", options.users);
    report.rates(&name, &rates, BARS.scan);
    let more = (stores[1].memory("VmHWM") / 1024).saturating_sub(before);
    report.line(
        &format!("its memory grows from {before} MiB by {more} MiB"),
        &format!("at most {} MiB", BARS.scan_memory),
        more <= BARS.scan_memory,
    );
}

async fn fill(server: &Running, users: usize) {
    let mut client = open(server, "/").await;
    for at in (0..users).step_by(CHUNK) {
        client.calls([&call(user_service::CREATE_USERS.path, CHUNK.min(users - at))]).await;
    }
}

/// Makes calls for some time, and gives their count and how long it was until the last was answered.
async fn load(server: &Running, call: &Arc<Call>, time: Duration) -> (f64, Duration) {
    let mut clients = JoinSet::new();
    let started = Instant::now();
    for _ in 0..CONNECTIONS {
        let (mut client, call) = (open(server, &call.path).await, call.clone());
        clients.spawn(async move {
            let mut count = 0;
            while started.elapsed() < time {
                client.calls(repeat_n(&*call, BATCH)).await;
                count += BATCH;
            }
            count
        });
    }
    let count: usize = clients.join_all().await.into_iter().sum();
    (count as f64, started.elapsed())
}

async fn open(server: &Running, path: &str) -> Client<TcpStream> {
    let stream = TcpStream::connect(&server.address).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    Client::open(stream, path, None).await
}

/// A call that creates users.
fn call(path: &str, users: usize) -> Call {
    let user = CreateUserRequest { name: "Alice Smith".into(), email: "alice@example.com".into() };
    let mut body = BytesMut::new();
    for _ in 0..users {
        encode(&mut body, &user, usize::MAX).expect("no limit");
    }
    Call::new(path, &body)
}

/// A folder on the disk that has the build.
fn disk() -> Folder {
    Folder::within(Path::new(env!("CARGO_TARGET_TMPDIR")))
}

fn sqlite(folder: &Folder) -> String {
    format!("sqlite:{}", text(&folder.path("users.db")))
}

/// The program that `command` starts, on a store. Nobody reads its lines.
fn start(mut command: Command, store: &str) -> Running {
    command.args(["--store", store, "--store-durability", "full"]);
    command.args(["--log-level", "info,balafon::access=off"]);
    Running::spawn(command)
}

/// Of the rounds, with memory and with SQLite.
#[derive(Default)]
struct Rates([Vec<f64>; 2]);

impl Rates {
    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    /// Of SQLite to memory, round by round.
    fn ratio(&self) -> f64 {
        let [memory, sqlite] = &self.0;
        Self::median(memory.iter().zip(sqlite).map(|(memory, sqlite)| sqlite / memory).collect())
    }
}

/// Prints the table, a line at a time, and sees whether all bars are reached.
#[derive(Default)]
struct Report {
    missed: bool,
}

#[allow(clippy::print_stdout)] // It is what this program is for.
impl Report {
    fn rates(&mut self, what: &str, rates: &Rates, least: f64) {
        let [memory, sqlite] = rates.0.clone().map(Rates::median);
        let ratio = rates.ratio();
        println!("{what}: memory {memory:.0}/s, SQLite {sqlite:.0}/s");
        self.line(
            &format!("SQLite has {:.0} % of the rate", 100.0 * ratio),
            &format!("at least {:.0} %", 100.0 * least),
            ratio >= least,
        );
    }

    fn line(&mut self, found: &str, bar: &str, reached: bool) {
        let verdict = if reached { "" } else { ": MISSED" };
        println!("    {found:<50} wanted {bar}{verdict}");
        self.missed |= !reached;
    }

    fn exit_code(&self) -> ExitCode {
        if self.missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

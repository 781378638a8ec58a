//! The program with a log pipe that is not read.

use std::collections::HashMap;
use std::io::Read;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;

use crate::admin::{self, http};
use crate::support::peer::{Peer, request};
use crate::support::program::Running;
use crate::support::{PATIENCE, patiently};

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// Concurrent calls.
const BATCH: usize = 32;

/// The least number of calls: the log lines of 12,000 exceed its buffers.
const CALLS: usize = 12_000;

struct Stalled {
    running: Running,
    admin: String,
    peer: Peer,
    calls: usize,
}

impl Stalled {
    /// A program whose log is read up to here.
    async fn start(arguments: &[&str]) -> Self {
        let (running, admin) = admin::start(arguments);
        let peer = Peer::connect(running.address.parse().unwrap()).await;
        Self { running, admin, peer, calls: 0 }
    }

    /// The successful calls, and the time that they took.
    async fn batch(&mut self) -> Duration {
        self.calls += BATCH;
        let id = "i".repeat(128);
        let start = Instant::now();
        join_all((0..BATCH).map(|_| {
            let (mut peer, head) = (self.peer.clone(), request(CHECK).header("x-request-id", &id));
            async move {
                let reply = peer.call(head, Bytes::from_static(&[0; 5])).await;
                assert_eq!((reply.grpc_status(), &*reply.body), ("0", &[0, 0, 0, 0, 2, 8, 1][..]));
            }
        }))
        .await;
        start.elapsed()
    }

    /// Makes calls until lines are dropped.
    async fn fill(&mut self) {
        while self.dropped() == 0 {
            for _ in 0..20 {
                self.batch().await;
            }
            assert!(self.calls < 10 * CALLS, "the log takes all of it");
        }
    }

    fn dropped(&self) -> u64 {
        let metrics = http(&self.admin, "GET /metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix("log_lines_dropped_total "));
        line.unwrap_or_else(|| panic!("no such metric in {metrics}")).parse().unwrap()
    }

    async fn ended(mut self) -> ExitStatus {
        // Runs on another thread, because this one's peer has to answer the GOAWAY.
        let ended = tokio::task::spawn_blocking(move || self.running.child.wait().unwrap());
        patiently(ended).await.unwrap()
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_log_slows_no_call() {
    let mut stalled = Stalled::start(&[]).await;
    let mut control = Stalled::start(&[]).await;
    let mut log = control.running.log.take().unwrap();
    thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let (mut stalled_times, mut control_times) = (Vec::new(), Vec::new());
    while stalled.calls < CALLS {
        // In turns, so that a busy machine slows both.
        stalled_times.push(stalled.batch().await);
        control_times.push(control.batch().await);
    }
    assert!(stalled.dropped() > 0, "the log takes all of it");
    assert_eq!(control.dropped(), 0);
    let (stalled_time, control_time) = (median(&mut stalled_times), median(&mut control_times));
    assert!(
        stalled_time < control_time * 3 / 2 + Duration::from_millis(1),
        "{BATCH} calls take {stalled_time:?}, and {control_time:?} if the log is read"
    );
    assert!(http(&stalled.admin, "GET /readyz").starts_with("HTTP/1.1 200"));

    stalled.running.signal("TERM");
    assert_eq!(stalled.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_the_program() {
    // At this level fewer calls fill the log.
    let mut stalled = Stalled::start(&["--lame-duck", "1h", "--log-level", "debug"]).await;
    stalled.fill().await;
    stalled.running.signal("TERM");
    while http(&stalled.admin, "GET /readyz").starts_with("HTTP/1.1 200") {}
    let signalled = Instant::now();
    stalled.running.signal("TERM");
    assert_eq!(stalled.ended().await.code(), Some(130));
    // One second for the log, and time for a busy machine, but no drain.
    assert!(signalled.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_lines_are_counted_for_a_returning_reader() {
    let mut stalled = Stalled::start(&[]).await;
    stalled.fill().await;
    let (dropped, calls) = (stalled.dropped(), stalled.calls);
    let mut log = stalled.running.log.take().unwrap();
    let read = thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        text
    });
    stalled.running.signal("TERM");
    assert_eq!(stalled.ended().await.code(), Some(0));
    let text = read.join().unwrap();
    // The lines of the shutdown may be dropped as well.
    let of_shutdown = 2;
    let mut counts = HashMap::new();
    let mut said = 0;
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        *counts.entry(line["target"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        said += line.get("dropped").map_or(0, |said| said.as_u64().unwrap());
    }
    assert_eq!(counts["balafon::log"], 1, "{counts:?}");
    assert!((dropped..=dropped + of_shutdown).contains(&said), "{said} of {dropped}");
    let all = counts["balafon::access"] + said;
    assert!((calls as u64..=calls as u64 + of_shutdown).contains(&all), "{all} of {calls}");
}

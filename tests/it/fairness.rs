//! Fair scheduling of the calls of a connection and the connections of a worker.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use balafon::{CallOptions, Response, Router, Rpc, Service, Status};
use tokio::sync::watch;

use crate::support::echo::Echo;
use crate::support::peer::Peer;
use crate::support::{TestServer, patiently};

static SLOW: Rpc<String, String> = Rpc::unary("/test.Busy/Slow");
static ENDLESS: Rpc<String, String> = Rpc::unary("/test.Busy/Endless");

/// The duration of a poll of `SLOW`: long compared with the wait of a thread for a CPU.
const SLOW_POLL: Duration = Duration::from_millis(25);

/// The duration of a poll of `ENDLESS`.
const ENDLESS_POLL: Duration = Duration::from_micros(100);

/// Attempts, of which the best counts: on a busy machine the test's own thread may have to wait.
const TRIES: usize = 10;

/// The number of polls of each endless call.
#[derive(Clone, Default)]
struct Polls(watch::Sender<Vec<usize>>);

impl Polls {
    fn service(&self) -> Service {
        Service::builder("test.Busy", &[], self.clone())
            .unary(&SLOW, |_, request| async move {
                compute(SLOW_POLL);
                Ok::<_, Status>(Response::new(request.message))
            })
            .unary(&ENDLESS, |polls, _| async move { polls.endless().await })
            .build()
    }

    /// Always ready for more work, and never waiting.
    async fn endless(&self) -> Result<Response<String>, Status> {
        let mut index = 0;
        self.0.send_modify(|polls| {
            index = polls.len();
            polls.push(0);
        });
        poll_fn(|cx| {
            compute(ENDLESS_POLL);
            self.0.send_modify(|polls| polls[index] += 1);
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    fn total(&self) -> usize {
        self.0.borrow().iter().sum()
    }

    /// Waits until each of this many calls was polled twice.
    async fn until_all_have_had_two(&self, calls: usize) {
        let mut polls = self.0.subscribe();
        let all = polls.wait_for(|polls| polls.len() == calls && polls.iter().all(|&n| n >= 2));
        patiently(all).await.unwrap();
    }

    /// The number of polls until `peer` gets an answer.
    async fn while_answered(&self, peer: &mut Peer) -> usize {
        let mut least = usize::MAX;
        for _ in 0..TRIES {
            let before = self.total();
            assert_eq!(peer.unary("/test.Echo/Unary", "hello").await.messages(), ["hello"]);
            least = least.min(self.total() - before);
        }
        least
    }
}

fn compute(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[tokio::test]
async fn thousand_busy_calls_starve_no_other_call() {
    const CALLS: usize = 1000;
    let polls = Polls::default();
    let router = Router::new().add(polls.service()).add(Echo::default().service());
    // Leaves room for one more call.
    let server = crate::support::server().workers(1).max_concurrent_streams(2 * CALLS as u32);
    let server = TestServer::start_with(server, router).await;
    let mut neighbour = Peer::connect(server.addr).await;
    let mut peer = Peer::connect(server.addr).await;
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        let mut call = peer.open("/test.Busy/Endless").await;
        call.message("", true);
        calls.push(call);
    }
    polls.until_all_have_had_two(CALLS).await;
    for (which, peer) in [("another", &mut neighbour), ("the same", &mut peer)] {
        let least = polls.while_answered(peer).await;
        assert!(least < CALLS / 2, "{which} connection: answered after {least} of {CALLS} calls");
    }
}

#[tokio::test]
async fn unlimited_sender_starves_no_other_call() {
    /// Far more than the calls that run at a time.
    const MUCH: usize = 8 * 1024 * 1024;
    let echo = Echo::default();
    let server = crate::support::server().workers(1);
    let server = TestServer::start_with(server, Router::new().add(echo.service())).await;
    let mut neighbour = Peer::connect(server.addr).await;
    let mut peer = Peer::connect(server.addr).await;
    let mut flood = peer.open("/test.Echo/Server").await;
    flood.message("flood", true);
    let (_send, mut recv) = flood.split().await.unwrap();
    let (received, mut progress) = watch::channel(0);
    let reading = tokio::spawn(async move {
        while let Some(Ok(chunk)) = recv.data().await {
            recv.flow_control().release_capacity(chunk.len()).unwrap();
            received.send_modify(|received| *received += chunk.len());
        }
    });
    patiently(progress.wait_for(|received| *received > MUCH)).await.unwrap();
    for (which, peer) in [("another", &mut neighbour), ("the same", &mut peer)] {
        let mut least = usize::MAX;
        for _ in 0..TRIES {
            let before = *progress.borrow();
            assert_eq!(peer.unary("/test.Echo/Unary", "hello").await.messages(), ["hello"]);
            least = least.min(*progress.borrow() - before);
        }
        assert!(least < MUCH, "{which} connection: answered after {least} bytes");
    }
    assert!(!reading.is_finished());
}

#[tokio::test]
async fn slow_handlers_are_counted_unless_spawned() {
    for spawn in [false, true] {
        let settings = crate::support::server().workers(1).time_slice(SLOW_POLL / 2);
        let stats = settings.stats();
        let router = Router::new()
            .add(Polls::default().service())
            .configure("test.Busy/Slow", CallOptions::new().spawn(spawn));
        let server = TestServer::start_with(settings, router).await;
        let mut peer = Peer::connect(server.addr).await;
        for _ in 0..3 {
            assert_eq!(peer.unary("/test.Busy/Slow", "hello").await.messages(), ["hello"]);
        }
        let counts = stats.slow_polls();
        let of_slow = counts.iter().find(|(method, _)| **method == *SLOW.method());
        let count = of_slow.map_or(0, |(_, count)| *count);
        // A poll can also be slow because the machine is.
        assert!(if spawn { count < 3 } else { count >= 3 }, "spawn {spawn}: {counts:?}");
    }
}

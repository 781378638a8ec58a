//! The database stops under load, or hangs, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;
use user_server::pb::{CreateUserRequest, GetUserRequest, UserResponse, UserUpdate, user_service};

use crate::health::Health;
use crate::peer::{Peer, Reply, encoded, request};
use crate::postgres::Postgres;
use crate::server::Server;

/// Each calls again after its answer.
const CALLERS: usize = 64;

/// Some callers set no deadline.
const DEADLINE: Duration = Duration::from_secs(1);

/// The pause of a caller after a failure: far shorter than the server asks for, but no busy loop.
const PAUSE: Duration = Duration::from_millis(10);

/// The time before the fault and after it.
const CALM: Duration = Duration::from_secs(3);

/// The bounds for a busy machine; an idle one needs a tenth or half of them.
const LONGEST_FAILURE: Duration = Duration::from_millis(500);
const LATEST: Duration = Duration::from_millis(500);
const LONGEST_WITHOUT_DEADLINE: Duration = Duration::from_secs(5);
const RECOVERY: Duration = Duration::from_secs(4);

/// A fault of the database.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Its processes end, and connections are refused.
    Stops,
    /// Its processes are stopped: connections succeed, but get no answer.
    Hangs,
}

impl Fault {
    fn begin(self, database: &Postgres) {
        match self {
            Self::Stops => database.stop(),
            Self::Hangs => database.freeze(),
        }
    }

    fn end(self, database: &Postgres) {
        match self {
            Self::Stops => database.resume(),
            Self::Hangs => database.wake(),
        }
    }
}

/// A call that has ended.
struct Call {
    began: Instant,
    took: Duration,
    deadline: Option<Duration>,
    is_ok: bool,
}

impl Call {
    fn end(&self) -> Instant {
        self.began + self.took
    }
}

/// Causes the fault under load for this time, and reports the results of clients.
pub(crate) async fn run(fault: Fault, database: &Arc<Postgres>, time: Duration) {
    let server = Server::start(&database.database());
    let mut peer = Peer::connect(server.address.parse().unwrap()).await;
    let mut health = Health::watch(&mut peer).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let peer = Peer::connect(server.address.parse().unwrap()).await;
        callers.spawn(call_until(stop.clone(), peer, number));
    }
    let (see, mut seen) = mpsc::unbounded_channel();
    let watching = tokio::spawn(async move {
        while see.send((health.is_serving().await, Instant::now())).is_ok() {}
    });

    sleep(CALM).await;
    let began = Instant::now();
    let victim = database.clone();
    spawn_blocking(move || fault.begin(&victim)).await.unwrap();
    sleep(time).await;
    let victim = database.clone();
    spawn_blocking(move || fault.end(&victim)).await.unwrap();
    let ended = Instant::now();
    sleep(CALM).await;
    stop.store(true, Ordering::Relaxed);
    let calls: Vec<Call> = callers.join_all().await.into_iter().flatten().collect();

    watching.abort();
    let seen: Vec<_> = std::iter::from_fn(|| seen.try_recv().ok()).collect();
    let [(true, _), (false, opened), (true, closed)] = seen[..] else { panic!("health: {seen:?}") };
    assert!(began < opened && opened < ended, "health: {seen:?}");

    let failures: Vec<&Call> = calls.iter().filter(|call| !call.is_ok).collect();
    let refused = failures.iter().filter(|call| (opened..ended).contains(&call.began));
    let mut refused: Vec<Duration> = refused.map(|call| call.took).collect();
    refused.sort();
    let refusal = |percent: usize| refused[(refused.len() - 1) * percent / 100];
    let with = |deadline: bool| calls.iter().filter(move |it| it.deadline.is_some() == deadline);
    let late = with(true).map(|call| call.took.saturating_sub(DEADLINE)).max().unwrap();
    let longest = with(false).map(|call| call.took).max().unwrap();
    let last = failures.iter().map(|call| call.end()).max().unwrap();
    let recovery = last.saturating_duration_since(ended);
    assert!(calls.iter().any(|call| call.is_ok && call.began < began));
    assert!(calls.iter().any(|call| call.is_ok && call.began > last));

    println!("PostgreSQL {fault:?} for {time:.0?} under {CALLERS} callers: {} calls", calls.len());
    println!("  NOT_SERVING after {:.0?}, then no other status until it was back", opened - began);
    println!(
        "  {} failures, {} of them begun while NOT_SERVING: median {:.1?}, p99 {:.1?}, longest {:.1?}",
        failures.len(),
        refused.len(),
        refusal(50),
        refusal(99),
        refusal(100),
    );
    println!("  answers at most {late:.1?} past their deadline; without one after {longest:.1?}");
    println!(
        "  SERVING {:.0?} after its return, the last failure {recovery:.0?}",
        closed.saturating_duration_since(ended)
    );
    assert!(refusal(99) < LONGEST_FAILURE);
    assert!(late < LATEST);
    assert!(longest < LONGEST_WITHOUT_DEADLINE);
    assert!(recovery < RECOVERY);
}

/// Reads, creates and updates: a quarter of the callers creates, a quarter updates, the others
/// read.
async fn call_until(stop: Arc<AtomicBool>, mut peer: Peer, number: usize) -> Vec<Call> {
    let deadline = (!number.is_multiple_of(17)).then_some(DEADLINE);
    let (name, email) = (format!("caller {number}"), "a@b.co".to_owned());
    let user = CreateUserRequest { name: name.clone(), email: email.clone() };
    let user = encoded(&user);
    let created = call(&mut peer, user_service::CREATE_USER.path, user.clone(), None).await;
    let user_id = UserResponse::decode(&created.body[5..]).unwrap().id;
    let (path, message) = match number % 4 {
        0 | 1 => (user_service::GET_USER.path, encoded(&GetUserRequest { user_id })),
        2 => (user_service::CREATE_USER.path, user),
        _ => (user_service::UPDATE_USERS.path, encoded(&UserUpdate { user_id, name, email })),
    };
    let mut calls = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let reply = call(&mut peer, path, message.clone(), deadline).await;
        let (took, is_ok) = (began.elapsed(), reply.grpc_status() == "0");
        calls.push(Call { began, took, deadline, is_ok });
        if !is_ok {
            sleep(PAUSE).await;
        }
    }
    calls
}

/// The server must keep the deadline: nothing here ends the call.
async fn call(peer: &mut Peer, path: &str, message: Bytes, deadline: Option<Duration>) -> Reply {
    let mut request = request(path);
    if let Some(deadline) = deadline {
        request = request.header("grpc-timeout", format!("{}m", deadline.as_millis()));
    }
    peer.call(request, message).await
}

//! See `run`.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // It is a test, and prints its results.

mod batches;
#[path = "../it/support/folder.rs"]
#[allow(dead_code, unreachable_pub)] // It is shared with the other tests.
mod folder;
#[path = "../it/support/health.rs"]
#[allow(unreachable_pub)]
mod health;
mod outage;
#[path = "../it/support/peer.rs"]
#[allow(dead_code, unreachable_pub)]
mod peer;
#[path = "../it/support/postgres.rs"]
#[allow(dead_code, unreachable_pub)]
mod postgres;
mod server;
mod two;
mod workers;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use user_server::pb::UserResponse;
use uuid::Uuid;

use self::batches::Batcher;
use self::folder::Folder;
use self::outage::Fault;
use self::postgres::Postgres;
use self::server::{Client, Server};
use self::workers::{Creator, Updater};

/// Clients of each kind.
const WORKERS: usize = 32;

/// Longer than a start takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The duration of a round: from hardly begun to a few thousand calls.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(400);

#[tokio::main]
async fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse().expect("wanted a number");
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sqlite"] => in_a_file(200).await,
        ["sqlite", "--rounds", rounds] => in_a_file(number(rounds)).await,
        ["postgres"] => in_postgres(200).await,
        ["postgres", "--rounds", rounds] => in_postgres(number(rounds)).await,
        ["two"] => two::run(&own_postgres().database(), 50).await,
        ["two", "--rounds", rounds] => {
            two::run(&own_postgres().database(), number(rounds)).await;
        }
        ["outage"] => outages(10).await,
        ["outage", "--seconds", seconds] => outages(number(seconds)).await,
        _ => panic!("usage: see tests/crash/run"),
    }
}

fn own_postgres() -> Arc<Postgres> {
    postgres::own().expect("PostgreSQL has to be installed")
}

async fn in_a_file(rounds: usize) {
    let folder = Folder::new();
    let store = format!("sqlite:{}", folder::text(&folder.path("users.db")));
    kill(&store, None, rounds).await;
}

async fn in_postgres(rounds: usize) {
    let database = own_postgres();
    kill(&database.database(), Some(&database), rounds).await;
}

async fn outages(seconds: usize) {
    let (database, time) = (own_postgres(), Duration::from_secs(seconds as u64));
    for fault in [Fault::Stops, Fault::Hangs] {
        outage::run(fault, &database, time).await;
    }
}

/// Kills the server, or every other time its database.
async fn kill(store: &str, database: Option<&Arc<Postgres>>, rounds: usize) {
    let started = Instant::now();
    let mut all = Expected::default();
    for round in 0..rounds {
        all.round(store, database.filter(|_| round % 2 == 1)).await;
    }
    // Verifies everything once more: a user that was stored may have vanished.
    all.newest = None;
    let mut server = Server::start(store);
    all.verify(&mut server.client().await).await;
    server.kill();
    println!(
        "{rounds} rounds in {:.0?}: {} creations and {} updates acknowledged, all there; {} \
         creations unanswered, asked for again; {} users of streams acknowledged, {} streams \
         repeated, {} told what is stored of them",
        started.elapsed(),
        all.creators.iter().map(|it| it.acknowledged.len()).sum::<usize>(),
        all.updaters.iter().map(|it| it.acknowledged).sum::<u64>(),
        all.creators.iter().map(|it| it.repeated).sum::<usize>(),
        all.batchers.iter().map(|it| it.acknowledged.len()).sum::<usize>(),
        all.batchers.iter().map(|it| it.repeated).sum::<usize>(),
        all.batchers.iter().map(|it| it.told).sum::<usize>(),
    );
}

/// The moment is random on purpose; it waits for no condition.
fn random_time() -> Duration {
    let random = u32::from(Uuid::now_v7().as_bytes()[15]);
    SHORTEST + (LONGEST - SHORTEST) * random / 255
}

/// Fails rather than waiting for ever.
async fn patiently<F: IntoFuture>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("this takes far less time")
}

/// The expected contents of the store.
#[derive(Default)]
struct Expected {
    creators: Vec<Creator>,
    batchers: Vec<Batcher>,
    updaters: Vec<Updater>,
    /// The last verified user.
    newest: Option<String>,
}

impl Expected {
    /// Starts the server, verifies its users, and kills it, or its database, under load.
    async fn round(&mut self, store: &str, database: Option<&Arc<Postgres>>) {
        let mut server = Server::start(store);
        let mut client = server.client().await;
        self.verify(&mut client).await;
        if self.creators.is_empty() {
            self.creators = (0..WORKERS).map(Creator::new).collect();
            self.batchers = Batcher::all();
            for _ in 0..WORKERS {
                self.updaters.push(Updater::new(&mut client).await);
            }
        }
        let (mut creators, mut updaters) = (JoinSet::new(), JoinSet::new());
        let mut batchers = JoinSet::new();
        for mut batcher in self.batchers.drain(..) {
            let client = client.clone();
            batchers.spawn(async move {
                batcher.run(client).await;
                batcher
            });
        }
        for mut creator in self.creators.drain(..) {
            let client = client.clone();
            creators.spawn(async move {
                creator.run(client).await;
                creator
            });
        }
        for mut updater in self.updaters.drain(..) {
            let client = client.clone();
            updaters.spawn(async move {
                updater.run(client).await;
                updater
            });
        }
        sleep(random_time()).await;
        if let Some(database) = database {
            database.stop();
        } else {
            server.kill();
        }
        self.creators = creators.join_all().await;
        self.updaters = updaters.join_all().await;
        self.batchers = batchers.join_all().await;
        if let Some(database) = database {
            server.kill();
            database.resume();
        }
    }

    /// Searches for everything that was acknowledged.
    async fn verify(&mut self, client: &mut Client) {
        let found = client.users_after(self.newest.as_deref()).await;
        assert!(found.is_sorted_by(|a, b| a.id < b.id), "users out of order, or twice");
        let mut by_name: HashMap<&str, &UserResponse> = HashMap::new();
        for user in &found {
            let twice = by_name.insert(&user.name, user);
            assert!(twice.is_none(), "created twice: {user:?} and {twice:?}");
        }
        for creator in &mut self.creators {
            creator.verify(&by_name, self.newest.as_deref());
        }
        for batcher in &mut self.batchers {
            batcher.verify(&by_name, self.newest.as_deref());
        }
        for updater in &mut self.updaters {
            let user = client.user(&updater.id).await;
            updater.verify(&user);
        }
        self.newest = found.last().map(|user| user.id.clone()).or(self.newest.take());
    }
}

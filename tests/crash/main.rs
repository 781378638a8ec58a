//! See `run`.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // It is a test, and tells what it has done.

#[path = "../it/support/folder.rs"]
#[allow(dead_code, unreachable_pub)] // It is shared with the other tests.
mod folder;
#[path = "../it/support/postgres.rs"]
#[allow(dead_code, unreachable_pub)]
mod postgres;
mod server;
mod workers;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balafon::users::pb::UserResponse;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use self::folder::Folder;
use self::postgres::Postgres;
use self::server::{Client, Server};
use self::workers::{Creator, Updater};

/// Of each kind.
const WORKERS: usize = 32;

/// Longer than anything takes to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a round is: from hardly begun to a few thousand calls.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(400);

#[tokio::main]
async fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let (store, rounds) = match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [store @ ("sqlite" | "postgres")] => (*store, 200),
        [store @ ("sqlite" | "postgres"), "--rounds", count] => {
            (*store, count.parse().expect("--rounds wants a number"))
        }
        _ => panic!("usage: tests/crash/run sqlite|postgres [--rounds N]"),
    };
    let folder = Folder::new();
    let database = match store {
        "postgres" => Some(postgres::own().expect("PostgreSQL has to be installed")),
        _ => None,
    };
    let store = match &database {
        Some(database) => database.database(),
        None => format!("sqlite:{}", folder::text(&folder.path("users.db"))),
    };
    let started = Instant::now();
    let mut all = Expected::default();
    for round in 0..rounds {
        // Of the database and its server, one after the other is killed.
        let victim = database.as_ref().filter(|_| round % 2 == 1);
        all.round(&store, victim).await;
    }
    // Once more from the beginning: what was there once may be gone.
    all.newest = None;
    let mut server = Server::start(&store);
    all.verify(&mut server.client().await).await;
    server.kill();
    println!(
        "{rounds} rounds in {:.0?}: {} creations and {} updates acknowledged, all there; {} \
         creations unanswered, asked for again",
        started.elapsed(),
        all.creators.iter().map(|it| it.acknowledged.len()).sum::<usize>(),
        all.updaters.iter().map(|it| it.acknowledged).sum::<u64>(),
        all.creators.iter().map(|it| it.repeated).sum::<usize>(),
    );
}

/// What has to be in the store.
#[derive(Default)]
struct Expected {
    creators: Vec<Creator>,
    updaters: Vec<Updater>,
    /// The last user that was verified.
    newest: Option<String>,
}

impl Expected {
    /// Starts the server, looks at what it has, and kills it, or its database, while it is busy.
    async fn round(&mut self, store: &str, database: Option<&Arc<Postgres>>) {
        let mut server = Server::start(store);
        let mut client = server.client().await;
        self.verify(&mut client).await;
        if self.creators.is_empty() {
            self.creators = (0..WORKERS).map(Creator::new).collect();
            for _ in 0..WORKERS {
                self.updaters.push(Updater::new(&mut client).await);
            }
        }
        let (mut creators, mut updaters) = (JoinSet::new(), JoinSet::new());
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
        // A random moment is what this is about, not a condition.
        let random = u32::from(Uuid::now_v7().as_bytes()[15]);
        sleep(SHORTEST + (LONGEST - SHORTEST) * random / 255).await;
        if let Some(database) = database {
            database.stop();
        } else {
            server.kill();
        }
        self.creators = creators.join_all().await;
        self.updaters = updaters.join_all().await;
        if let Some(database) = database {
            server.kill();
            database.resume();
        }
    }

    /// Looks for all that was acknowledged.
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
        for updater in &mut self.updaters {
            let user = client.user(&updater.id).await;
            updater.verify(&user);
        }
        self.newest = found.last().map(|user| user.id.clone()).or(self.newest.take());
    }
}

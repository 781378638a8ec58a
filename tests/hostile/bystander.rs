//! A client without part in the attack: calls at a fixed, moderate rate on its own connections,
//! with their latencies and failures.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prost::Message;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::client::{CHECK, CREATE_USER, Client, GET_USER, alice};
use crate::link::Target;
use crate::wire::string_field;

/// Two connections for each worker of a machine with two cores.
const CONNECTIONS: u32 = 4;

/// Calls a second of each connection: together 400, half of them GetUser, half health checks.
const INTERVAL: Duration = Duration::from_millis(10);

/// A call that takes longer counts as failed.
const DEADLINE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Habit {
    /// Keeps its connections.
    Calls,
    /// Opens a connection for each call, at half the rate.
    Connections,
    /// Keeps its connections, and creates users only, at half the rate.
    Creations,
}

/// The results of its calls.
pub(crate) struct Figures {
    pub(crate) calls: usize,
    pub(crate) failures: Vec<String>,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

pub(crate) struct Bystander {
    start: mpsc::Sender<Duration>,
    thread: JoinHandle<Figures>,
}

impl Bystander {
    /// A client that has connected and made a call.
    pub(crate) fn connect(target: &Target, user: &str, habit: Habit) -> Self {
        let (start, started) = mpsc::channel();
        let (connected, ready) = mpsc::channel();
        let (target, user) = (target.clone(), user.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut clients = Vec::new();
                for _ in 0..CONNECTIONS {
                    let client = Client::connect(&target).await.unwrap();
                    for turn in 0..20 {
                        call(&client, habit, turn, &user).await.unwrap();
                    }
                    clients.push(client);
                }
                connected.send(()).unwrap();
                let time = started.recv().unwrap();
                measure(&target, clients, &user, habit, time).await
            })
        });
        ready.recv().expect("the bystander connects");
        Self { start, thread }
    }

    pub(crate) fn start(&self, time: Duration) {
        self.start.send(time).unwrap();
    }

    /// Waits for its last call.
    pub(crate) fn finish(self) -> Figures {
        self.thread.join().unwrap()
    }
}

async fn call(client: &Client, habit: Habit, turn: u32, user: &str) -> Result<(), String> {
    let (path, message) = if habit == Habit::Creations {
        (CREATE_USER, alice().encode_to_vec())
    } else if turn % 2 == 0 {
        (CHECK, Vec::new())
    } else {
        (GET_USER, string_field(1, user.as_bytes()))
    };
    let status = client.call(path, &message).await?;
    if status == 0 { Ok(()) } else { Err(format!("{path} ended with status {status}")) }
}

async fn measure(
    target: &Target,
    clients: Vec<Client>,
    user: &str,
    habit: Habit,
    time: Duration,
) -> Figures {
    let pace = if habit == Habit::Calls { INTERVAL } else { INTERVAL * 2 };
    let mut callers = JoinSet::new();
    for client in clients {
        let (target, user) = (target.clone(), user.to_owned());
        callers.spawn(async move {
            let (mut ticks, end) = (interval(pace), Instant::now() + time);
            let (mut calls, mut turn) = (JoinSet::new(), 0);
            while Instant::now() < end {
                ticks.tick().await;
                turn += 1;
                let (target, client, user) = (target.clone(), client.clone(), user.clone());
                // A waiting call does not delay the next: every call in the time of a stall
                // measures it.
                calls.spawn(async move {
                    let begin = Instant::now();
                    let called = async {
                        let new;
                        let client = if habit == Habit::Connections {
                            new = Client::connect(&target).await.map_err(|it| it.to_string())?;
                            &new
                        } else {
                            &client
                        };
                        call(client, habit, turn, &user).await
                    };
                    let called = timeout(DEADLINE, called).await;
                    let failure = called.unwrap_or(Err("a call took over 2 s".to_owned())).err();
                    (begin.elapsed(), failure)
                });
            }
            calls.join_all().await
        });
    }
    let calls: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    let (mut times, failures): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
    times.sort();
    let at = |share: usize| times[times.len() * share / 100];
    Figures {
        calls: times.len(),
        p50: at(50),
        p99: at(99),
        failures: failures.into_iter().flatten().collect(),
    }
}

//! Two servers on one PostgreSQL change the same users, and one of them is killed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::Request;
use user_server::pb::{CreateUserRequest, UserResponse, UserUpdate, user_service};

use crate::server::{Client, Server};
use crate::workers::Creator;
use crate::{WORKERS, random_time};

/// Both servers change all of them at the same time.
const USERS: usize = 100;

/// Rounds. Each kills one server, in turns.
pub(crate) async fn run(store: &str, rounds: usize) {
    let mut servers = [Server::start(store), Server::start(store)];
    let mut client = servers[0].client().await;
    let mut users = Vec::new();
    for number in 0..USERS {
        users.push(Setter::pair(&mut client, number).await);
    }
    let mut creators: Vec<_> = (0..WORKERS).map(Creator::new).collect();
    for round in 0..rounds {
        let victim = round % 2;
        let clients = [servers[0].client().await, servers[1].client().await];
        let (stop, mut setters, mut creating) = (Stop::default(), JoinSet::new(), JoinSet::new());
        for (number, pair) in users.drain(..).enumerate() {
            for (server, mut setter) in pair.into_iter().enumerate() {
                let (mut client, stop) = (clients[server].clone(), stop.clone());
                setters.spawn(async move {
                    while !stop.is_set() && setter.set(&mut client).await {}
                    assert!(server == victim || stop.is_set(), "the other server failed, too");
                    (number, server, setter)
                });
            }
        }
        for mut creator in creators.drain(..) {
            let (stop, mut clients) = (stop.clone(), clients.clone());
            creating.spawn(async move {
                if creator.number % 2 == victim {
                    creator.run(clients[victim].clone()).await;
                }
                // Unanswered calls are repeated on the other server.
                while !stop.is_set() {
                    assert!(creator.create(&mut clients[1 - victim]).await);
                }
                creator
            });
        }
        sleep(random_time()).await;
        servers[victim].kill();
        // The other server goes on alone for this time.
        sleep(random_time()).await;
        stop.set();

        let mut ended = setters.join_all().await;
        ended.sort_by_key(|(number, server, _)| (*number, *server));
        let mut ended = ended.into_iter().map(|(_, _, setter)| setter);
        while let (Some(one), Some(other)) = (ended.next(), ended.next()) {
            users.push([one, other]);
        }
        creators = creating.join_all().await;
        servers[victim] = Server::start(store);
        verify(&users, &creators, &mut servers[victim].client().await).await;
    }
    println!(
        "{rounds} kills of one of two servers: {} updates of {USERS} users and {} creations \
         acknowledged, none lost, none torn; {} creations asked for again of the other server",
        users.iter().flatten().map(|setter| setter.count).sum::<u64>(),
        creators.iter().map(|creator| creator.acknowledged.len()).sum::<usize>(),
        creators.iter().map(|creator| creator.repeated).sum::<usize>(),
    );
}

async fn verify(users: &[[Setter; 2]], creators: &[Creator], client: &mut Client) {
    let found = client.users_after(None).await;
    let by_id: HashMap<_, _> = found.iter().map(|user| (&*user.id, user)).collect();
    for pair in users {
        let user = by_id[&*pair[0].id];
        // The last writer and the last value of each field.
        let name = user.name.split_once(" number ").unwrap();
        let email = user.email.split('@').next().unwrap().split_once('.').unwrap();
        if pair[0].field == Field::Both {
            assert_eq!(name, email, "torn: {user:?}");
        }
        for (server, number) in [name, email] {
            pair[server.parse::<usize>().unwrap()].verify(number.parse().unwrap(), user);
        }
    }
    let created: Vec<_> = found.iter().filter(|user| user.name.starts_with("creator")).collect();
    let by_name: HashMap<_, _> = created.iter().map(|user| (&*user.name, *user)).collect();
    assert_eq!(by_name.len(), created.len(), "some were created twice");
    creators.iter().for_each(|creator| creator.verify(&by_name, None));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Email,
    /// Both fields, in one update.
    Both,
}

/// Sets a field of one user to one number after the other, through one server.
struct Setter {
    server: usize,
    id: String,
    field: Field,
    /// The next number.
    next: u64,
    acknowledged: u64,
    /// The number of acknowledged changes.
    count: u64,
}

impl Setter {
    /// The fields of a new user. Each server owns one field, or both change both.
    async fn pair(client: &mut Client, number: usize) -> [Self; 2] {
        let fields = match number % 2 {
            0 => [Field::Name, Field::Email],
            _ => [Field::Both; 2],
        };
        let user = CreateUserRequest { name: "new".to_owned(), email: "new@b.co".to_owned() };
        let user = client.call(&user_service::CREATE_USER, Request::new(user)).await.unwrap();
        let setter = |server| Self {
            server,
            id: user.id.clone(),
            field: fields[server],
            next: 0,
            acknowledged: 0,
            count: 0,
        };
        let mut pair = [setter(0), setter(1)];
        for setter in &mut pair {
            assert!(setter.set(client).await);
        }
        pair
    }

    /// Whether the change was acknowledged.
    async fn set(&mut self, client: &mut Client) -> bool {
        let (server, number) = (self.server, self.next);
        self.next += 1;
        let (mut name, mut email) =
            (format!("{server} number {number}"), format!("{server}.{number}@example.com"));
        match self.field {
            Field::Name => email.clear(),
            Field::Email => name.clear(),
            Field::Both => {}
        }
        let update =
            UserUpdate { user_id: self.id.clone(), name: name.clone(), email: email.clone() };
        let Ok(user) = client.update(update).await else { return false };
        assert!(name.is_empty() || user.name == name, "{user:?}");
        assert!(email.is_empty() || user.email == email, "{user:?}");
        (self.acknowledged, self.count) = (number, self.count + 1);
        true
    }

    /// Its last value is the acknowledged one, or an unanswered one.
    fn verify(&self, number: u64, user: &UserResponse) {
        let last = self.acknowledged;
        assert!((last..self.next).contains(&number), "{user:?} after {last} was acknowledged");
    }
}

/// Stops the workers.
#[derive(Clone, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

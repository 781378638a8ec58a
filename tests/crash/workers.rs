//! Clients that write, and remember the acknowledged writes.

use std::collections::HashMap;

use tonic::Request;
use user_server::pb::{CreateUserRequest, UserResponse, UserUpdate, user_service};

use crate::server::Client;

/// Creates users one after the other, each with a name and a key of its own.
pub(crate) struct Creator {
    pub(crate) number: usize,
    /// The creation that is to be answered next.
    next: usize,
    /// The ids that it got, by name.
    pub(crate) acknowledged: Vec<(String, String)>,
    /// The number of repeated calls after a missing answer.
    pub(crate) repeated: usize,
}

impl Creator {
    pub(crate) fn new(number: usize) -> Self {
        Self { number, next: 0, acknowledged: Vec::new(), repeated: 0 }
    }

    /// Runs until the server has ended. It begins with the unanswered call of the last time.
    pub(crate) async fn run(&mut self, mut client: Client) {
        while self.create(&mut client).await {}
    }

    /// Whether it was acknowledged. If not, it is repeated the next time.
    pub(crate) async fn create(&mut self, client: &mut Client) -> bool {
        let name = format!("creator {} user {}", self.number, self.next);
        let email = format!("{}.{}@example.com", self.number, self.next);
        let mut request = Request::new(CreateUserRequest { name: name.clone(), email });
        let key = format!("{}-{}", self.number, self.next).parse().unwrap();
        request.metadata_mut().insert("idempotency-key", key);
        let answer = client.call(&user_service::CREATE_USER, request).await;
        match &answer {
            Ok(user) => {
                assert_eq!(user.name, name);
                self.acknowledged.push((name, user.id.clone()));
                self.next += 1;
            }
            Err(_) => self.repeated += 1,
        }
        answer.is_ok()
    }

    /// Searches the users above `after` for the acknowledged ones.
    pub(crate) fn verify(&self, found: &HashMap<&str, &UserResponse>, after: Option<&str>) {
        let newest_first = self.acknowledged.iter().rev();
        for (name, id) in newest_first.take_while(|(_, id)| Some(id.as_str()) > after) {
            let user = found.get(name.as_str());
            let user = user.unwrap_or_else(|| panic!("{name} is lost: it had the id {id}"));
            let address = user.email.split('@').next().unwrap().replace('.', " user ");
            assert_eq!((&user.id, format!("creator {address}")), (id, name.clone()), "torn");
        }
    }
}

/// Sets the name and the address of its own user to one number after the other.
pub(crate) struct Updater {
    pub(crate) id: String,
    pub(crate) acknowledged: u64,
}

impl Updater {
    pub(crate) async fn new(client: &mut Client) -> Self {
        let name = format!("updater {}", uuid::Uuid::now_v7());
        let user = CreateUserRequest { name, email: "0@example.com".to_owned() };
        let user = client.call(&user_service::CREATE_USER, Request::new(user)).await.unwrap();
        let mut updater = Self { id: user.id, acknowledged: 0 };
        assert!(updater.set(client, 0).await);
        updater
    }

    /// Runs until the server has ended.
    pub(crate) async fn run(&mut self, mut client: Client) {
        while self.set(&mut client, self.acknowledged + 1).await {
            self.acknowledged += 1;
        }
    }

    async fn set(&mut self, client: &mut Client, number: u64) -> bool {
        let update = UserUpdate {
            user_id: self.id.clone(),
            name: format!("{} number {number}", self.id),
            email: format!("{number}@example.com"),
        };
        client.update(update).await.is_ok()
    }

    /// The user has the acknowledged value, or the value of the call that the kill interrupted.
    pub(crate) fn verify(&mut self, user: &UserResponse) {
        let name = user.name.strip_prefix(&format!("{} number ", self.id)).unwrap();
        let (name, email): (u64, u64) =
            (name.parse().unwrap(), user.email.split('@').next().unwrap().parse().unwrap());
        assert_eq!(name, email, "torn: {user:?}");
        let last = self.acknowledged;
        assert!((last..=last + 1).contains(&name), "{user:?} after {last} was acknowledged");
        self.acknowledged = name;
    }
}

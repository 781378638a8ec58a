//! The store that all servers have, and the user service of the peers, without what is the library's part in it.

use std::pin::pin;
use std::sync::Arc;

use balafon::prost_types::Timestamp;
use futures_util::{FutureExt, TryStreamExt};
use user_server::domain::{Invalid, NewUser, User, UserChange, UserId, UserStatus};
use user_server::pb::{self, UserResponse};
use user_server::store::memory::MemoryStore;
use user_server::store::{Extent, Page, UserStore};

use crate::store::BoundedStore;

/// How many users each server starts with, and so how many messages `GetAllUsers` has.
pub const COUNT: usize = 1000;

/// A store with users, whose ids go to the standard output on one line, for the load.
///
/// # Panics
/// If the store is broken.
#[must_use]
pub fn seeded() -> BoundedStore {
    let store = MemoryStore::new();
    let create = |n| {
        let user = NewUser::parse(&format!("User Number {n}"), &format!("user{n}@example.com"));
        now(store.create(user.expect("it is valid"))).expect("there is room").id
    };
    let ids: Vec<_> = (0..COUNT).map(create).collect();
    println!("{}", ids.iter().map(UserId::to_string).collect::<Vec<_>>().join(" "));
    BoundedStore::new(store, ids[COUNT - 1])
}

/// The output of a future that is ready at once, as those of these stores are.
fn now<F: Future>(future: F) -> F::Output {
    future.now_or_never().expect("these stores never wait")
}

/// Why a call fails; each server has its own type of status.
pub enum Fault {
    InvalidArgument(String),
    NotFound(String),
    Internal,
}

impl From<Invalid> for Fault {
    fn from(invalid: Invalid) -> Self {
        Self::InvalidArgument(invalid.to_string())
    }
}

/// The user service as plain functions, none of which waits: no peer pays for more than its own machinery.
#[derive(Clone)]
pub struct Users(Arc<BoundedStore>);

impl Users {
    #[must_use]
    pub fn seeded() -> Self {
        Self(Arc::new(seeded()))
    }

    /// # Errors
    /// If a value is not valid.
    pub fn create(&self, name: &str, email: &str) -> Result<Arc<User>, Fault> {
        now(self.0.create(NewUser::parse(name, email)?)).map_err(|_| Fault::Internal)
    }

    /// # Errors
    /// If there is no such user.
    pub fn get(&self, id: &str) -> Result<Arc<User>, Fault> {
        let user = now(self.0.get(parse_id(id)?)).map_err(|_| Fault::Internal)?;
        user.ok_or_else(|| not_found(id))
    }

    /// # Errors
    /// If there is no such user, or a value is not valid.
    pub fn update(&self, id: &str, name: &str, email: &str) -> Result<Arc<User>, Fault> {
        let change = UserChange::parse(name, email)?;
        let user = now(self.0.update(parse_id(id)?, change)).map_err(|_| Fault::Internal)?;
        user.ok_or_else(|| not_found(id))
    }

    /// How many users there are, and the messages of all of them, made one by one of pages, as balafon makes them.
    ///
    /// # Errors
    /// If the store is broken.
    pub fn all<M>(&self, message: fn(User<&str>) -> M) -> Result<(u64, All<M>), Fault> {
        let extent = now(self.0.extent()).map_err(|_| Fault::Internal)?;
        let all = All {
            store: self.0.clone(),
            extent,
            page: Page::Shared(Vec::new()),
            position: 0,
            message,
        };
        Ok((extent.total, all))
    }
}

/// The messages of all users in order of creation.
pub struct All<M> {
    store: Arc<BoundedStore>,
    extent: Extent,
    page: Page,
    /// Of the next user in the page.
    position: usize,
    message: fn(User<&str>) -> M,
}

impl<M> Iterator for All<M> {
    type Item = M;

    fn next(&mut self) -> Option<M> {
        if self.position == self.page.len() {
            let after = self.page.last();
            if after >= self.extent.newest {
                return None;
            }
            self.page = now(pin!(self.store.scan(after, self.extent)).try_next()).ok()??;
            self.position = 0;
        }
        let user = self.page.get(self.position)?;
        self.position += 1;
        Some((self.message)(user))
    }
}

/// A user as prost's message.
#[must_use]
pub fn message(user: User<&str>) -> UserResponse {
    UserResponse {
        id: user.id.to_string(),
        name: user.name.to_owned(),
        email: user.email.to_owned(),
        created_at: Some(Timestamp {
            seconds: user.created_at.seconds(),
            nanos: user.created_at.nanos(),
        }),
        status: status(user.status) as i32,
    }
}

fn status(status: UserStatus) -> pb::UserStatus {
    match status {
        UserStatus::Active => pb::UserStatus::Active,
        UserStatus::Inactive => pb::UserStatus::Inactive,
        UserStatus::Suspended => pb::UserStatus::Suspended,
    }
}

fn parse_id(id: &str) -> Result<UserId, Fault> {
    if id.is_empty() {
        return Err(Fault::InvalidArgument("user_id must not be empty".to_owned()));
    }
    UserId::parse(id).ok_or_else(|| not_found(id))
}

fn not_found(id: &str) -> Fault {
    Fault::NotFound(format!("User not found: {id}"))
}

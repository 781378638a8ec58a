//! The gRPC service: it converts between messages and the domain, and calls a store.

mod batch;
mod error;
mod idempotency;
mod message;
mod view;

pub use self::batch::{
    DEFAULT_CHUNK_DELAY, DEFAULT_CHUNK_SIZE, DEFAULT_MAX_BATCH, USERS_BATCH, USERS_FAILED,
    USERS_FAILURES,
};
pub use self::idempotency::{Caller, IDEMPOTENCY_KEY};
pub use self::view::View;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;

use self::batch::{Batch, Limits, Mode};
use self::error::{empty_user_id, repeatable, user_not_found};
use self::message::{UserMessages, message_of};
use crate::domain::{MAX_NAME_CHARS, NewUser, User, UserChange, UserId};
use crate::pb::{
    self, CreateUserRequest, CreateUsersResponse, GetUserRequest, UserResponse, UserUpdate,
};
use crate::store::{ChangeListener, StoreError, UserStore};
use balafon::google::rpc::BadRequest;
use balafon::{AsciiKey, Call, Metadata, Request, Response, Sink, Status, Streaming};

/// Initial metadata of `GetAllUsers`: the number of users at the start of the call. It is left out if the caller
/// cannot see all users.
pub static USERS_TOTAL: AsciiKey = AsciiKey::from_static("users-total");

/// Trailing metadata of `GetAllUsers`: the number of users that were left out because their stored data is
/// damaged. Absent if there are none.
pub static USERS_SKIPPED: AsciiKey = AsciiKey::from_static("users-skipped");

/// Request metadata of `GetAllUsers`: the id of the last user that the client has received.
pub static USERS_RESUME_AFTER: AsciiKey = AsciiKey::from_static("users-resume-after");

/// The user service, on any store.
#[derive(Debug)]
pub struct Users<S> {
    store: S,
    batch_limits: Limits,
}

/// The capacity of a text that is kept for the next message, in bytes: enough for the longest name.
const KEPT_CAPACITY: usize = 4 * MAX_NAME_CHARS;

/// The maximum number of pages of a scan in memory: the page that is sent, and those that are read ahead.
const SCANNED_PAGES: usize = 3;

/// The memory of a scan until its client reads, in bytes. It is charged before a page is read: scans that begin
/// together would otherwise exceed the limits before they are charged for their pages.
const FIRST_PAGES: usize = 48 * 1024;

/// The memory of a typical user on a page, in bytes.
const TYPICAL_USER: usize = 96;

/// The length of encoded users that `GetAllUsers` sends together, in bytes. With 40 typical users, the cost of
/// sending is hardly seen beside that of encoding.
const BATCH: usize = 4 * 1024;

/// The memory of a batch, whose buffer doubles as it grows.
const BATCH_MEMORY: usize = 2 * BATCH;

impl<S: UserStore> Users<S> {
    /// A service with the default settings.
    pub fn new(store: S) -> Self {
        Self { store, batch_limits: Limits::default() }
    }

    /// Sets the maximum number of messages in a `CreateUsers` stream.
    #[must_use]
    pub fn max_batch(mut self, messages: usize) -> Self {
        self.batch_limits.messages = messages;
        self
    }

    /// Sets the size of a chunk: the number of users of a `CreateUsers` stream that are stored together, unless
    /// the stream is atomic. A chunk that is not full after `delay` is stored as it is.
    #[must_use]
    pub fn chunks(mut self, size: usize, delay: Duration) -> Self {
        self.batch_limits.chunk_size = size;
        self.batch_limits.chunk_delay = delay;
        self
    }

    /// Changes a user, if the caller can see it.
    async fn update(
        &self,
        id: UserId,
        change: UserChange,
        view: View,
    ) -> Result<Option<Arc<User>>, StoreError> {
        if view.active_only && !self.store.get(id).await?.is_some_and(|user| view.shows(&user)) {
            return Ok(None);
        }
        self.store.update(id, change).await
    }
}

impl<S: UserStore> pb::UserService for Users<S> {
    async fn create_user(
        &self,
        mut request: Request<CreateUserRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let user = {
            // The message is freed before the store is called.
            let CreateUserRequest { name, email } = mem::take(&mut request.message);
            NewUser::parse(&name, &email)?
        };
        let listener = request.extensions().get::<ChangeListener>().cloned();
        let user = match idempotency::key_of(&request)? {
            Some(key) => {
                self.store.create_one(user, Some(key), listener).await.map_err(repeatable)?
            }
            None => self.store.create_one(user, None, listener).await?,
        };
        Ok(Response::new(message_of(user.borrowed(), view(&request))))
    }

    async fn get_user(
        &self,
        mut request: Request<GetUserRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let (id, view) = (parse_id(&request.message.user_id)?, view(&request));
        // The message may have had the field twice, first with a longer text.
        request.message.user_id.shrink_to_fit();
        match self.store.get(id).await? {
            Some(user) if view.shows(&user) => Ok(Response::new(message_of(user.borrowed(), view))),
            _ => Err(user_not_found(&request.message.user_id)),
        }
    }

    async fn get_all_users(
        &self,
        request: Request<()>,
        mut out: Sink<UserResponse>,
    ) -> Result<(), Status> {
        let (after, view) = (resume_after(request.metadata())?, view(&request));
        let extent = self.store.extent().await?;
        let first = first_pages(extent.total);
        let mut charge = request.charge(BATCH_MEMORY + first);
        // The total would reveal the number of hidden users.
        if !view.active_only {
            out.metadata_mut().insert(&USERS_TOTAL, extent.total);
        }
        out.flush_headers();

        let mut pages = pin!(self.store.scan(after, extent));
        let mut messages = UserMessages::new(view);
        let mut skipped = 0;
        while let Some(page) = pages.try_next().await? {
            charge.set(BATCH_MEMORY + first.max(SCANNED_PAGES * page.memory()));
            if page.skipped() > 0 {
                skipped += page.skipped();
                out.trailers_mut().insert(&USERS_SKIPPED, skipped);
            }
            for user in page.iter().filter(|user| view.shows(user)) {
                messages.push(user)?;
                if messages.wire_len() >= BATCH {
                    messages.send(&mut out).await?;
                }
            }
            messages.send(&mut out).await?;
        }
        Ok(())
    }

    async fn create_users(
        &self,
        request: Request<Streaming<CreateUserRequest>>,
    ) -> Result<Response<CreateUsersResponse>, Status> {
        let mode = Mode::of(request.metadata())?;
        let (messages, call) = request.into_parts();
        let key = idempotency::key_of(&call)?;
        Batch::new(&self.store, mode, key, self.batch_limits, &call).create(messages).await
    }

    async fn update_users(
        &self,
        mut request: Request<Streaming<UserUpdate>>,
        mut out: Sink<UserResponse>,
    ) -> Result<(), Status> {
        let view = view(&request);
        let (mut update, mut answer) = (UserUpdate::default(), UserMessages::new(view));
        while request.message.read_into(&mut update).await? {
            let UserUpdate { user_id, name, email } = &mut update;
            let id = parse_id(user_id)?;
            let change = UserChange::parse(name, email)?;
            // Long texts are freed before the store is called and the client is waited for.
            user_id.shrink_to_fit();
            for text in [name, email] {
                if text.capacity() > KEPT_CAPACITY {
                    *text = String::new();
                }
            }
            // Before the change: if the call ends during it, the change may have happened.
            notify(&request, id);
            let Some(user) = self.update(id, change, view).await.map_err(repeatable)? else {
                return Err(user_not_found(user_id));
            };
            answer.push(user.borrowed())?;
            answer.send(&mut out).await?;
        }
        Ok(())
    }
}

fn view(call: &Call) -> View {
    call.extensions().get().copied().unwrap_or_default()
}

fn notify(call: &Call, id: UserId) {
    if let Some(changes) = call.extensions().get::<ChangeListener>() {
        changes.notify(id);
    }
}

/// Parses an id. For the client, an id that is not a UUID is an unknown user.
fn parse_id(text: &str) -> Result<UserId, Status> {
    if text.is_empty() {
        return Err(empty_user_id());
    }
    UserId::parse(text).ok_or_else(|| user_not_found(text))
}

/// The memory of a scan of so many users until its client reads, in bytes.
fn first_pages(users: u64) -> usize {
    usize::try_from(users)
        .map_or(FIRST_PAGES, |users| FIRST_PAGES.min(users.saturating_mul(TYPICAL_USER)))
}

fn resume_after(metadata: &Metadata) -> Result<Option<UserId>, Status> {
    let Some(value) = metadata.as_headers().get(USERS_RESUME_AFTER.as_str()) else {
        return Ok(None);
    };
    match value.to_str().ok().and_then(UserId::parse) {
        Some(id) => Ok(Some(id)),
        None => {
            let message = "users-resume-after is not a user id: wanted a UUID, \
                           such as 0190163d-8694-739b-aea5-966c26f8ad91";
            let detail = BadRequest::new().violation(USERS_RESUME_AFTER.as_str(), "not a UUID");
            Err(Status::invalid_argument(message).with_detail(&detail))
        }
    }
}

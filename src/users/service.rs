use std::sync::Arc;

use prost::Message;

use super::domain::{NewUser, User, UserChange, UserId, UserStatus};
use super::error::{bad_request, empty_user_id, user_not_found};
use super::pb::{
    self, CreateUserRequest, CreateUsersResponse, GetUserRequest, UserResponse, UserUpdate,
};
use super::store::{Scan, StoreError, UserStore};
use super::view::{Changes, View};
use crate::rpc::{BadRequest, ErrorInfo};
use crate::{AsciiKey, BinaryKey, Call, Metadata, Request, Response, Sink, Status, Streaming};

/// Initial metadata of `GetAllUsers`: how many users there were when the call began. A caller who may
/// not see all of them does not get it.
pub static USERS_TOTAL: AsciiKey = AsciiKey::from_static("users-total");

/// Request metadata of `GetAllUsers`: the id of the last user that the client has.
pub static USERS_RESUME_AFTER: AsciiKey = AsciiKey::from_static("users-resume-after");

/// Trailing metadata of `CreateUsers`: how many messages were not valid.
pub static USERS_FAILED: AsciiKey = AsciiKey::from_static("users-failed");

/// Trailing metadata of `CreateUsers`: a `google.rpc.BadRequest` with fields such as
/// `messages[3].email`, counted from zero.
pub static USERS_FAILURES: BinaryKey = BinaryKey::from_static("users-failures-bin");

/// Messages that one `CreateUsers` stream may have, unless it is set otherwise. The ids of so many
/// users make a response of 380 KB, a tenth of what clients accept by default.
pub const DEFAULT_MAX_BATCH: usize = 10_000;

/// The largest `users-failures-bin`, encoded but not yet in base64: with the rest of the trailers
/// it stays below 8 KiB, the least that clients accept by default (grpc-java, C-core).
const MAX_FAILURES_LEN: usize = 4 * 1024;

/// The user service on any store.
#[derive(Debug)]
pub struct Users<S> {
    store: S,
    max_batch: usize,
}

impl<S: UserStore> Users<S> {
    /// A service with the default settings.
    pub fn new(store: S) -> Self {
        Self { store, max_batch: DEFAULT_MAX_BATCH }
    }

    /// Sets how many messages a `CreateUsers` stream may have.
    #[must_use]
    pub fn max_batch(mut self, messages: usize) -> Self {
        self.max_batch = messages;
        self
    }

    /// Changes a user, if the caller may see it.
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

    fn batch_too_large(&self, created: usize) -> Status {
        let max = self.max_batch;
        let detail = ErrorInfo::new("BATCH_TOO_LARGE", pb::user_service::NAME)
            .with("max_batch", max)
            .with("created", created);
        Status::resource_exhausted(format!(
            "a stream may have at most {max} messages; {created} users were created"
        ))
        .with_detail(&detail)
    }
}

impl<S: UserStore> pb::UserService for Users<S> {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let CreateUserRequest { name, email } = &request.message;
        let user = self.store.create(NewUser::parse(name, email)?).await?;
        tell(&request, user.id);
        Ok(Response::new(message_of(&user, view(&request))))
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let (id, view) = (parse_id(&request.message.user_id)?, view(&request));
        match self.store.get(id).await? {
            Some(user) if view.shows(&user) => Ok(Response::new(message_of(&user, view))),
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
        // It would tell how many are hidden.
        if !view.active_only {
            out.metadata_mut().insert(&USERS_TOTAL, extent.total);
        }
        out.flush_headers();

        let mut scan = Scan::new(&self.store, extent, after);
        // One message for all users: its strings keep their memory.
        let mut message = UserResponse::default();
        while let Some(user) = scan.next().await? {
            if view.shows(&user) {
                write_message(&user, view, &mut message);
                out.send(&message).await?;
            }
        }
        Ok(())
    }

    async fn create_users(
        &self,
        mut request: Request<Streaming<CreateUserRequest>>,
    ) -> Result<Response<CreateUsersResponse>, Status> {
        let mut user_ids = Vec::new();
        let mut failures = Failures::default();
        let mut index = 0;
        // One message for all, as above.
        let mut message = CreateUserRequest::default();
        while request.message.read_into(&mut message).await? {
            let CreateUserRequest { name, email } = &message;
            if index == self.max_batch {
                let status = self.batch_too_large(user_ids.len());
                return Err(status.with_metadata(failures.into_metadata()));
            }
            match NewUser::parse(name, email) {
                Ok(user) => {
                    let id = self.store.create(user).await?.id;
                    tell(&request, id);
                    user_ids.push(id.to_string());
                }
                Err(invalid) => {
                    let path = format!("messages[{index}].");
                    failures.add(bad_request(BadRequest::new(), &path, invalid));
                }
            }
            index += 1;
        }
        let created_count = user_ids.len().try_into().unwrap_or(i32::MAX);
        let mut response = Response::new(CreateUsersResponse { created_count, user_ids });
        response.trailers = failures.into_metadata();
        Ok(response)
    }

    async fn update_users(
        &self,
        mut request: Request<Streaming<UserUpdate>>,
        mut out: Sink<UserResponse>,
    ) -> Result<(), Status> {
        let view = view(&request);
        let (mut update, mut answer) = (UserUpdate::default(), UserResponse::default());
        while request.message.read_into(&mut update).await? {
            let UserUpdate { user_id, name, email } = &update;
            let id = parse_id(user_id)?;
            let change = UserChange::parse(name, email)?;
            // First: if the call ends in the middle of it, the change may have happened.
            tell(&request, id);
            let Some(user) = self.update(id, change, view).await? else {
                return Err(user_not_found(user_id));
            };
            write_message(&user, view, &mut answer);
            out.send(&answer).await?;
        }
        Ok(())
    }
}

fn view(call: &Call) -> View {
    call.extensions().get().copied().unwrap_or_default()
}

fn tell(call: &Call, id: UserId) {
    if let Some(changes) = call.extensions().get::<Changes>() {
        changes.tell(id);
    }
}

/// Messages of a `CreateUsers` stream that made no user.
#[derive(Default)]
struct Failures {
    messages: u64,
    detail: BadRequest,
    full: bool,
}

impl Failures {
    /// Counts a message; its violations are named as long as the trailers have room.
    fn add(&mut self, violations: BadRequest) {
        self.messages += 1;
        let len = self.detail.encoded_len() + violations.encoded_len();
        self.full |= len > MAX_FAILURES_LEN;
        if !self.full {
            self.detail.field_violations.extend(violations.field_violations);
        }
    }

    fn into_metadata(self) -> Metadata {
        let mut metadata = Metadata::new();
        metadata.insert(&USERS_FAILED, self.messages);
        if self.messages > 0 {
            metadata.insert_bin(&USERS_FAILURES, self.detail.encode_to_vec());
        }
        metadata
    }
}

/// An id that is no UUID names no user, as far as the client is concerned.
fn parse_id(text: &str) -> Result<UserId, Status> {
    if text.is_empty() {
        return Err(empty_user_id());
    }
    UserId::parse(text).ok_or_else(|| user_not_found(text))
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

fn message_of(user: &User, view: View) -> UserResponse {
    let mut message = UserResponse::default();
    write_message(user, view, &mut message);
    message
}

fn write_message(user: &User, view: View, message: &mut UserResponse) {
    message.id.clear();
    message.id.push_str(user.id.encode(&mut [0; UserId::TEXT_LEN]));
    message.name.clone_from(&user.name);
    message.email.clear();
    message.email.push_str(&view.email(&user.email));
    message.created_at = Some(prost_types::Timestamp {
        seconds: user.created_at.seconds(),
        nanos: user.created_at.nanos(),
    });
    message.set_status(match user.status {
        UserStatus::Active => pb::UserStatus::Active,
        UserStatus::Inactive => pb::UserStatus::Inactive,
        UserStatus::Suspended => pb::UserStatus::Suspended,
    });
}

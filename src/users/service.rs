use prost::Message;

use super::domain::{NewUser, User, UserChange, UserId, UserStatus};
use super::error::{bad_request, empty_user_id, user_not_found};
use super::pb::{
    self, CreateUserRequest, CreateUsersResponse, GetUserRequest, UserResponse, UserUpdate,
};
use super::store::{Scan, UserStore};
use crate::rpc::{BadRequest, ErrorInfo};
use crate::{AsciiKey, BinaryKey, Metadata, Request, Response, Sink, Status, Streaming};

/// Initial metadata of `GetAllUsers`: how many users there were when the call began.
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
        Ok(Response::new(message_of(&user)))
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let id = parse_id(&request.message.user_id)?;
        match self.store.get(id).await? {
            Some(user) => Ok(Response::new(message_of(&user))),
            None => Err(user_not_found(&request.message.user_id)),
        }
    }

    async fn get_all_users(
        &self,
        request: Request<()>,
        mut out: Sink<UserResponse>,
    ) -> Result<(), Status> {
        let after = resume_after(request.metadata())?;
        let extent = self.store.extent().await?;
        out.metadata_mut().insert(&USERS_TOTAL, extent.total);
        out.flush_headers();

        let mut scan = Scan::new(&self.store, extent, after);
        // One message for all users: its strings keep their memory.
        let mut message = UserResponse::default();
        while let Some(user) = scan.next().await? {
            write_message(&user, &mut message);
            out.send(&message).await?;
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
                Ok(user) => user_ids.push(self.store.create(user).await?.id.to_string()),
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
        let (mut update, mut answer) = (UserUpdate::default(), UserResponse::default());
        while request.message.read_into(&mut update).await? {
            let UserUpdate { user_id, name, email } = &update;
            let id = parse_id(user_id)?;
            let change = UserChange::parse(name, email)?;
            let Some(user) = self.store.update(id, change).await? else {
                return Err(user_not_found(user_id));
            };
            write_message(&user, &mut answer);
            out.send(&answer).await?;
        }
        Ok(())
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

fn message_of(user: &User) -> UserResponse {
    let mut message = UserResponse::default();
    write_message(user, &mut message);
    message
}

fn write_message(user: &User, message: &mut UserResponse) {
    message.id.clear();
    message.id.push_str(user.id.encode(&mut [0; UserId::TEXT_LEN]));
    message.name.clone_from(&user.name);
    message.email.clone_from(&user.email);
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

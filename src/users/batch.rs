//! `CreateUsers`: a stream of users to create, committed in chunks or all at once.

use std::mem;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::poll_immediate;
use prost::Message;
use tokio::time::{Instant, timeout_at};

use super::domain::{NewUser, UserId};
use super::error::bad_request;
use super::pb::{self, CreateUserRequest, CreateUsersResponse};
use super::store::UserStore;
use super::view::Changes;
use crate::rpc::{BadRequest, ErrorInfo};
use crate::{AsciiKey, BinaryKey, Call, Charge, Metadata, Response, Status, Streaming};

/// Request metadata of `CreateUsers`: `atomic` for all or nothing, `chunked` (or nothing at all) for
/// chunks that are stored as they come.
pub static USERS_BATCH: AsciiKey = AsciiKey::from_static("users-batch");

/// Trailing metadata of `CreateUsers`: how many messages were not valid.
pub static USERS_FAILED: AsciiKey = AsciiKey::from_static("users-failed");

/// Trailing metadata of `CreateUsers`: a `google.rpc.BadRequest` with fields such as
/// `messages[3].email`, counted from zero.
pub static USERS_FAILURES: BinaryKey = BinaryKey::from_static("users-failures-bin");

/// Messages that one `CreateUsers` stream may have, unless it is set otherwise. The ids of so many
/// users make a response of 380 KB, a tenth of what clients accept by default.
pub const DEFAULT_MAX_BATCH: usize = 10_000;

/// Users that a stream commits at a time, unless it is set otherwise: what a wait for the disk costs
/// each of them is a small part of what it takes to insert it.
pub const DEFAULT_CHUNK_SIZE: usize = 256;

/// How long a user waits for others before it is committed without them, unless it is set otherwise:
/// a few times as long as a wait for the disk.
pub const DEFAULT_CHUNK_DELAY: Duration = Duration::from_millis(10);

/// The largest `users-failures-bin`, encoded but not yet in base64: with the rest of the trailers
/// it stays below 8 KiB, the least that clients accept by default (grpc-java, C-core).
const MAX_FAILURES_LEN: usize = 4 * 1024;

/// Bytes that a stream may hold without a charge, which takes a lock: less than a call's head.
const UNCHARGED: usize = 4 * 1024;

/// What streams are held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) messages: usize,
    pub(super) chunk_size: usize,
    pub(super) chunk_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages: DEFAULT_MAX_BATCH,
            chunk_size: DEFAULT_CHUNK_SIZE,
            chunk_delay: DEFAULT_CHUNK_DELAY,
        }
    }
}

/// When the users of a stream are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As they come; messages that are not valid are skipped.
    Chunked,
    /// When the client has half-closed, if all of its messages are valid.
    Atomic,
}

impl Mode {
    pub(super) fn of(metadata: &Metadata) -> Result<Self, Status> {
        let value = metadata.as_headers().get(USERS_BATCH.as_str()).map(|value| value.as_bytes());
        match value {
            None | Some(b"chunked") => Ok(Self::Chunked),
            Some(b"atomic") => Ok(Self::Atomic),
            Some(_) => {
                let wanted = "wanted atomic or chunked";
                let detail = BadRequest::new().violation(USERS_BATCH.as_str(), wanted);
                let message = format!("users-batch is neither: {wanted}");
                Err(Status::invalid_argument(message).with_detail(&detail))
            }
        }
    }
}

/// One stream.
pub(super) struct Batch<'a, S> {
    store: &'a S,
    mode: Mode,
    limits: Limits,
    /// How many messages were read.
    messages: usize,
    /// What is not stored yet: a chunk, or all.
    pending: Vec<NewUser>,
    /// When `pending` is to be stored although it is short.
    due: Option<Instant>,
    user_ids: Vec<String>,
    failures: Failures,
    changes: Option<&'a Changes>,
    held: Held,
}

/// What comes next in a stream.
enum Next {
    Message,
    /// Nothing for now, and `pending` has waited long enough.
    Due,
    HalfClose,
}

impl<'a, S: UserStore> Batch<'a, S> {
    pub(super) fn new(store: &'a S, mode: Mode, limits: Limits, call: &'a Call) -> Self {
        Self {
            store,
            mode,
            limits,
            messages: 0,
            pending: Vec::new(),
            due: None,
            user_ids: Vec::new(),
            failures: Failures::default(),
            changes: call.extensions().get(),
            held: Held { charge: call.charge(0), pending: 0, charged: 0 },
        }
    }

    /// Stores the users of a stream. Dropped, or ended by an error, it leaves what its mode says:
    /// whole chunks, the first of the valid messages up to some point; or nothing.
    pub(super) async fn create(
        mut self,
        mut messages: Streaming<CreateUserRequest>,
    ) -> Result<Response<CreateUsersResponse>, Status> {
        // One message for all: its strings keep their memory, but not while the store is waited for.
        let mut message = CreateUserRequest::default();
        loop {
            match self.next(&mut messages, &mut message).await? {
                Next::Message if self.messages == self.limits.messages => {
                    drop(message);
                    return Err(self.too_large().await?);
                }
                Next::Message => self.take(&message)?,
                Next::Due => self.store_pending().await?,
                Next::HalfClose => break,
            }
            if self.mode == Mode::Chunked && self.pending.len() >= self.limits.chunk_size {
                message = CreateUserRequest::default();
                self.store_pending().await?;
            }
        }
        drop(message);
        self.store_pending().await?;
        let created_count = self.user_ids.len().try_into().unwrap_or(i32::MAX);
        let user_ids = self.user_ids;
        let mut response = Response::new(CreateUsersResponse { created_count, user_ids });
        response.trailers = self.failures.into_metadata();
        Ok(response)
    }

    async fn next(
        &self,
        messages: &mut Streaming<CreateUserRequest>,
        message: &mut CreateUserRequest,
    ) -> Result<Next, Status> {
        let mut read = pin!(messages.read_into(message));
        // Most messages are there already, and need no timer.
        let there_is_one = match (poll_immediate(&mut read).await, self.due) {
            (Some(read), _) => read?,
            (None, None) => read.await?,
            (None, Some(due)) => match timeout_at(due, read).await {
                Ok(read) => read?,
                Err(_) => return Ok(Next::Due),
            },
        };
        Ok(if there_is_one { Next::Message } else { Next::HalfClose })
    }

    fn take(&mut self, message: &CreateUserRequest) -> Result<(), Status> {
        match (NewUser::parse(&message.name, &message.email), self.mode) {
            (Ok(user), _) => {
                self.held.pending += user.name().len() + user.email().len();
                self.pending.push(user);
                self.charge();
            }
            (Err(invalid), mode) => {
                let path = format!("messages[{}].", self.messages);
                let violations = bad_request(BadRequest::new(), &path, invalid);
                match mode {
                    Mode::Chunked => self.failures.add(violations),
                    Mode::Atomic => {
                        let message = "a message is not valid, so no user was created";
                        return Err(Status::invalid_argument(message).with_detail(&violations));
                    }
                }
            }
        }
        self.messages += 1;
        if self.mode == Mode::Chunked && !self.pending.is_empty() {
            self.due.get_or_insert_with(|| Instant::now() + self.limits.chunk_delay);
        }
        Ok(())
    }

    /// Charges the call for the users that are not stored and the ids of those that are.
    fn charge(&mut self) {
        let pending = self.held.pending + self.pending.capacity() * size_of::<NewUser>();
        let ids =
            self.user_ids.capacity() * size_of::<String>() + self.user_ids.len() * UserId::TEXT_LEN;
        self.held.set(pending + ids);
    }

    async fn store_pending(&mut self) -> Result<(), Status> {
        self.due = None;
        if !self.pending.is_empty() {
            let ids = self.store.create_all(mem::take(&mut self.pending)).await?;
            if let Some(changes) = self.changes {
                ids.iter().for_each(|id| changes.tell(*id));
            }
            self.user_ids.extend(ids.iter().map(ToString::to_string));
            self.held.pending = 0;
            self.charge();
        }
        Ok(())
    }

    /// Why there are no more messages read. What was read before is stored, or else nothing.
    async fn too_large(&mut self) -> Result<Status, Status> {
        if self.mode == Mode::Chunked {
            self.store_pending().await?;
        }
        let (max, created) = (self.limits.messages, self.user_ids.len());
        let detail = ErrorInfo::new("BATCH_TOO_LARGE", pb::user_service::NAME)
            .with("max_batch", max)
            .with("created", created);
        Ok(Status::resource_exhausted(format!(
            "a stream may have at most {max} messages; {created} users were created"
        ))
        .with_detail(&detail)
        .with_metadata(mem::take(&mut self.failures).into_metadata()))
    }
}

/// What a stream has in memory while it waits for the next message.
struct Held {
    charge: Charge,
    /// Bytes of texts of the users that are not stored.
    pending: usize,
    charged: usize,
}

impl Held {
    /// Charges so many bytes, give or take the [first](UNCHARGED) of them.
    fn set(&mut self, bytes: usize) {
        if bytes.abs_diff(self.charged) > UNCHARGED {
            self.charge.set(bytes);
            self.charged = bytes;
        }
    }
}

/// Messages of a stream that made no user.
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

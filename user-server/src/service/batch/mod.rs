//! `CreateUsers`: a stream of users to create, stored in chunks or all at once.

mod ending;
mod failures;
mod keyed;
mod memory_charge;

use std::mem;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::poll_immediate;
use tokio::time::{Instant, timeout_at};

use self::ending::Ending;
use self::failures::Failures;
use self::keyed::Keyed;
use self::memory_charge::MemoryCharge;
use super::error::bad_request;
use crate::domain::{NewUser, UserId};
use crate::pb::{self, CreateUserRequest, CreateUsersResponse};
use crate::store::{ChangeListener, IdempotencyKey, Known, StoreError, Stored, UserStore};
use balafon::google::rpc::{BadRequest, ErrorInfo};
use balafon::{AsciiKey, BinaryKey, Call, CallHandle, Metadata, Response, Status, Streaming};

/// Request metadata of `CreateUsers`: `atomic` stores all users or none. `chunked`, the default, stores chunks
/// as they arrive.
pub static USERS_BATCH: AsciiKey = AsciiKey::from_static("users-batch");

/// Trailing metadata of `CreateUsers`: the number of invalid messages.
pub static USERS_FAILED: AsciiKey = AsciiKey::from_static("users-failed");

/// Trailing metadata of `CreateUsers`: a `google.rpc.BadRequest` with fields such as
/// `messages[3].email`, counted from zero.
pub static USERS_FAILURES: BinaryKey = BinaryKey::from_static("users-failures-bin");

/// The default maximum number of messages in a `CreateUsers` stream. The ids of as many users take 380 KB in
/// the response, a tenth of the default limit of clients.
pub const DEFAULT_MAX_BATCH: usize = 10_000;

/// The default number of users in a chunk. The share of each user in the wait for the disk is then small,
/// compared with its insertion.
pub const DEFAULT_CHUNK_SIZE: usize = 256;

/// The default time after which an incomplete chunk is stored: a few times as long as a wait for the disk.
pub const DEFAULT_CHUNK_DELAY: Duration = Duration::from_millis(10);

/// The limits of a stream.
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
    /// As they arrive. Invalid messages are skipped.
    Chunked,
    /// After the client has half-closed, if all messages are valid.
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
                let message = format!("users-batch is invalid: {wanted}");
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
    /// The number of messages that were read.
    messages: usize,
    /// The number of messages that were stored or refused.
    settled: usize,
    /// The users that are not stored yet: a chunk, or all.
    pending: Vec<NewUser>,
    /// When `pending` is stored although the chunk is not full.
    due: Option<Instant>,
    /// The ids of the stored users.
    ids: Vec<UserId>,
    /// The number of users that may or may not be stored.
    unknown: usize,
    keyed: Option<Keyed>,
    failures: Failures,
    changes: Option<ChangeListener>,
    handle: CallHandle,
    memory: MemoryCharge,
    /// The bytes of the texts of `pending`.
    texts: usize,
}

/// The next event of a stream.
enum Next {
    Message,
    /// The chunk is due before the next message has arrived.
    Due,
    HalfClose,
}

impl<'a, S: UserStore> Batch<'a, S> {
    pub(super) fn new(
        store: &'a S,
        mode: Mode,
        key: Option<IdempotencyKey>,
        limits: Limits,
        call: &Call,
    ) -> Self {
        Self {
            store,
            mode,
            limits,
            messages: 0,
            settled: 0,
            pending: Vec::new(),
            due: None,
            ids: Vec::new(),
            unknown: 0,
            keyed: key.map(Keyed::new),
            failures: Failures::default(),
            changes: call.extensions().get().cloned(),
            handle: call.handle(),
            memory: MemoryCharge::new(call),
            texts: 0,
        }
    }

    /// Stores the users of a stream. If the future is dropped, or ends with an error, a chunked stream has
    /// stored whole chunks: the valid messages up to a point. An atomic stream has stored nothing. An error
    /// names the number of stored users.
    pub(super) async fn create(
        mut self,
        messages: Streaming<CreateUserRequest>,
    ) -> Result<Response<CreateUsersResponse>, Status> {
        match self.store_all(messages).await {
            Ok(()) => {
                let created_count = self.ids.len().try_into().unwrap_or(i32::MAX);
                let user_ids = self.ids.iter().map(UserId::to_text).collect();
                let mut response = Response::new(CreateUsersResponse { created_count, user_ids });
                response.trailers = self.failures.into_metadata();
                Ok(response)
            }
            Err(status) => {
                let ending = Ending {
                    mode: self.mode,
                    keyed: self.keyed.is_some(),
                    created: self.ids.len(),
                    messages: self.settled,
                    unknown: self.unknown,
                };
                Err(ending.explain(status).with_metadata(self.failures.into_metadata()))
            }
        }
    }

    async fn store_all(
        &mut self,
        mut messages: Streaming<CreateUserRequest>,
    ) -> Result<(), Status> {
        // The message is reused: its strings keep their memory, except while the store is called.
        let mut message = CreateUserRequest::default();
        loop {
            match self.next(&mut messages, &mut message).await? {
                Next::Message if self.messages == self.limits.messages => {
                    drop(message);
                    return Err(self.too_large().await?);
                }
                Next::Message => self.take(&message)?,
                Next::Due => self.store_pending(false).await?,
                Next::HalfClose => break,
            }
            if self.mode == Mode::Chunked && self.pending.len() >= self.limits.chunk_size {
                message = CreateUserRequest::default();
                self.store_pending(false).await?;
            }
        }
        drop(message);
        self.store_pending(true).await
    }

    async fn next(
        &self,
        messages: &mut Streaming<CreateUserRequest>,
        message: &mut CreateUserRequest,
    ) -> Result<Next, Status> {
        let mut read = pin!(messages.read_into(message));
        // Most messages have arrived already, and need no timer.
        let has_message = match (poll_immediate(&mut read).await, self.due) {
            (Some(read), _) => read?,
            (None, None) => read.await?,
            (None, Some(due)) => match timeout_at(due, read).await {
                Ok(read) => read?,
                Err(_) => return Ok(Next::Due),
            },
        };
        Ok(if has_message { Next::Message } else { Next::HalfClose })
    }

    fn take(&mut self, message: &CreateUserRequest) -> Result<(), Status> {
        match NewUser::parse(&message.name, &message.email) {
            Ok(user) => {
                let is_new = self.keyed.as_mut().map_or(Ok(true), |keyed| keyed.take(&user))?;
                if is_new {
                    self.texts += user.name().len() + user.email().len();
                    self.pending.push(user);
                    self.charge();
                }
            }
            Err(invalid) => {
                let path = format!("messages[{}].", self.messages);
                let violations = bad_request(BadRequest::new(), &path, invalid);
                match self.mode {
                    Mode::Chunked => self.failures.add(violations),
                    Mode::Atomic => {
                        let message = "a message is invalid, so no user was created";
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

    /// Charges the call for the pending users and for the ids of the stored users.
    fn charge(&mut self) {
        let pending = self.texts + self.pending.capacity() * size_of::<NewUser>();
        self.memory.set(pending + self.ids.capacity() * size_of::<UserId>());
    }

    /// Stores the pending users. `ends` is whether the client has half-closed.
    async fn store_pending(&mut self, ends: bool) -> Result<(), Status> {
        self.due = None;
        match &self.keyed {
            None if self.pending.is_empty() => {}
            None => {
                let users = mem::take(&mut self.pending);
                self.settle(users.len(), self.store.create_many(users, None, self.changes.clone()))
                    .await?;
            }
            Some(_) => self.store_keyed(ends).await?,
        }
        self.settled = self.messages;
        self.texts = 0;
        self.charge();
        Ok(())
    }

    /// As [`store_pending`](Self::store_pending), for a stream with a key: skips the users that are stored.
    async fn store_keyed(&mut self, ends: bool) -> Result<(), Status> {
        while let Some(keyed) = &self.keyed
            && let Some(part) = keyed.part(&self.pending, ends)?
        {
            let users = self.pending.clone();
            let creation = self.store.create_many(users, Some(part.clone()), self.changes.clone());
            let known = self.settle(self.pending.len(), creation).await?;
            let Some(keyed) = &mut self.keyed else { break };
            match known {
                None => {
                    keyed.store(&part);
                    self.pending.clear();
                    break;
                }
                // An atomic stream is stored completely or not at all, so this is another stream.
                Some(known) if self.mode == Mode::Atomic && !known.ended => {
                    return Err(StoreError::key_reused().into());
                }
                Some(known) => {
                    let stored = keyed.compare(&known, &self.pending)?;
                    self.pending.drain(..stored);
                    self.ids = known.ids;
                }
            }
        }
        self.pending = Vec::new();
        Ok(())
    }

    /// Waits for the creation of this number of users, and notes its result. Returns the earlier attempt if
    /// the store knows more of the stream than this one.
    async fn settle(
        &mut self,
        users: usize,
        creation: impl Future<Output = Result<Stored, StoreError>>,
    ) -> Result<Option<Known>, Status> {
        let outcome = tokio::select! {
            biased;
            outcome = creation => outcome,
            // The transaction may be in progress, so its result is unknown to the client.
            reason = self.handle.ended() => {
                self.unknown = users;
                return Err(reason);
            }
        };
        match outcome {
            Ok(Stored::Now(ids)) => {
                self.ids.extend(ids);
                Ok(None)
            }
            Ok(Stored::Before(known)) => Ok(Some(known)),
            Err(error) => {
                if error.is_unknown() {
                    self.unknown = users;
                }
                Err(error.into())
            }
        }
    }

    /// The status of a stream with too many messages. A chunked stream stores the messages up to the limit.
    async fn too_large(&mut self) -> Result<Status, Status> {
        if self.mode == Mode::Chunked {
            self.store_pending(false).await?;
        }
        let max = self.limits.messages;
        let detail =
            ErrorInfo::new("BATCH_TOO_LARGE", pb::user_service::NAME).with("max_batch", max);
        Ok(Status::resource_exhausted(format!("a stream can have at most {max} messages"))
            .with_detail(&detail))
    }
}

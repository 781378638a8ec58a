//! The creations that calls request from the writer, and their results.

use std::sync::Arc;

use super::write_queue::Reply;
use super::{IdempotencyKey, Part, StoreError, Stored};
use crate::domain::{NewUser, User};
use crate::store::ChangeListener;

/// The users that a call creates, in one step.
pub(super) struct CreateRequest {
    pub(super) users: Users,
    pub(super) listener: Option<ChangeListener>,
}

pub(super) enum Users {
    One(NewUser, Option<IdempotencyKey>),
    Many(Vec<NewUser>, Option<Part>),
}

impl CreateRequest {
    pub(super) fn key(&self) -> Option<&IdempotencyKey> {
        match &self.users {
            Users::One(_, key) => key.as_ref(),
            Users::Many(_, part) => part.as_ref().map(|part| &part.key),
        }
    }
}

/// The users that were created.
pub(super) enum Created {
    One(Arc<User>),
    Many(Stored),
}

pub(super) type Answer = Result<Created, StoreError>;

/// A creation and the caller that waits for it.
pub(super) type Job = (CreateRequest, Reply<Created>);

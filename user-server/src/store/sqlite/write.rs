//! The changes that calls request from the writer.

use std::sync::Arc;

use super::write_queue::Reply;
use super::{IdempotencyKey, Part, Stored};
use crate::domain::{NewUser, User, UserChange, UserId};
use crate::store::ChangeListener;

/// A request to the writer.
pub(super) enum Write {
    CreateOne(NewUser, Option<IdempotencyKey>, Option<ChangeListener>, Reply<Arc<User>>),
    CreateMany(Vec<NewUser>, Option<Part>, Option<ChangeListener>, Reply<Stored>),
    Update(UserId, UserChange, Reply<Option<Arc<User>>>),
    /// Notice the changes of other programs.
    Refresh,
    /// Check that the file can be written.
    RewriteHeader,
}

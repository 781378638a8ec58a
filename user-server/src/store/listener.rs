//! Notification of changed users.

use std::fmt;
use std::sync::Arc;

use crate::domain::UserId;

/// Receives the id of each user that a call creates or is about to change. The service takes it from the
/// extensions of the call.
#[derive(Clone)]
pub struct ChangeListener(Arc<dyn Fn(UserId) + Send + Sync>);

impl ChangeListener {
    /// Calls `listener` for each user. It runs on the path of the call, so it must not block.
    pub fn new(listener: impl Fn(UserId) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    pub(crate) fn notify(&self, id: UserId) {
        (self.0)(id);
    }
}

impl fmt::Debug for ChangeListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeListener").finish_non_exhaustive()
    }
}

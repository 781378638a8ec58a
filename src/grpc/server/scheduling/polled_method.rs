use std::sync::{Mutex, PoisonError};

use crate::grpc::method::Method;

/// The method of the call that a worker has polled last. If the worker is blocked, this method
/// blocks it.
#[derive(Debug, Default)]
pub(crate) struct LastPolledMethod(Mutex<Option<&'static Method>>);

impl LastPolledMethod {
    /// Costs two uncontended atomic operations.
    pub(crate) fn set(&self, method: &'static Method) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(method);
    }

    pub(crate) fn last(&self) -> Option<&'static Method> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Converts errors of the domain and of stores to statuses. This happens only here.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::{Invalid, UserId};
use crate::pb;
use crate::store::StoreError;
use balafon::LogThrottle;
use balafon::google::rpc::{BadRequest, ErrorInfo, RetryInfo};
use balafon::{Code, Status};

/// The retry delay while the store is unavailable. Its health is checked twice a second.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Throttles the error line of each call while the store is unavailable: every call then fails, and fast.
static UNAVAILABLE: Mutex<LogThrottle> = Mutex::new(LogThrottle::new(10));

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        if error.is_key_reused() {
            let detail = ErrorInfo::new("IDEMPOTENCY_KEY_REUSED", pb::user_service::NAME);
            return Status::failed_precondition(
                "the idempotency-key was used before, for another name or e-mail address, or for \
                 another stream",
            )
            .with_detail(&detail);
        }
        let (code, message) = if error.is_unavailable() {
            (Code::Unavailable, "the user store is unavailable")
        } else if error.is_unknown() {
            (
                Code::Unknown,
                "the answer of the user store was lost: it is unknown whether the change is stored",
            )
        } else if error.is_full() {
            (Code::ResourceExhausted, "the user store is full")
        } else if error.is_corrupt() {
            (Code::DataLoss, "the user store is damaged")
        } else {
            (Code::Internal, "the user store failed")
        };
        // The cause is only logged: it may contain hosts, files and statements.
        if error.is_unavailable() || error.is_unknown() {
            let mut throttle = UNAVAILABLE.lock().unwrap_or_else(PoisonError::into_inner);
            throttle.log(|times| tracing::error!(%error, times, "user store"));
        } else {
            tracing::error!(%error, "user store");
        }
        let status = Status::new(code, message);
        match code {
            Code::Unavailable => status.with_detail(&RetryInfo::after(RETRY_AFTER)),
            _ => status,
        }
    }
}

/// The status of a change that is safe to repeat, even if it was stored: an update, or a creation with a key.
pub(super) fn repeatable(error: StoreError) -> Status {
    let is_unknown = error.is_unknown();
    let status = Status::from(error);
    if !is_unknown {
        return status;
    }
    let message = format!("{}; the call is safe to repeat", status.message());
    Status::unavailable(message).with_detail(&RetryInfo::after(RETRY_AFTER))
}

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Self {
        let message = invalid.to_string();
        Status::invalid_argument(message).with_detail(&bad_request(BadRequest::new(), "", invalid))
    }
}

/// Adds the violations to `detail`, with `path` before the names of their fields.
pub(super) fn bad_request(detail: BadRequest, path: &str, invalid: Invalid) -> BadRequest {
    let mut detail = detail;
    for violation in invalid.violations {
        detail = detail.violation(format!("{path}{}", violation.field), violation.description);
    }
    detail
}

/// The maximum length of an id in a status message, in bytes. The message repeats the id so that the client
/// knows which id failed. No client accepts megabytes of it in a header.
const MAX_REPEATED_ID: usize = 64 * 1024;

/// `text` is the id that the client has sent. If it is not a UUID it may be any text, so it is not logged.
pub(super) fn user_not_found(text: &str) -> Status {
    let mut ends = (0..=MAX_REPEATED_ID.min(text.len())).rev();
    let text = &text[..ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0)];
    let status = Status::not_found(format!("User not found: {text}"));
    match UserId::parse(text) {
        Some(_) => status,
        None => status.with_log_message("User not found"),
    }
}

pub(super) fn empty_user_id() -> Status {
    let detail = BadRequest::new().violation("user_id", "must not be empty");
    Status::invalid_argument("user_id must not be empty").with_detail(&detail)
}

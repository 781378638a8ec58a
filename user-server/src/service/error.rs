//! The one place where errors of the domain and of stores become statuses.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::{Invalid, UserId};
use crate::pb;
use crate::store::StoreError;
use balafon::LogThrottle;
use balafon::rpc::{BadRequest, ErrorInfo, RetryInfo};
use balafon::{Code, Status};

/// When a store that is away may be back: it is looked at twice a second.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// While a store is away, every call fails, and soon.
static AWAY: Mutex<LogThrottle> = Mutex::new(LogThrottle::new(10));

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        if error.is_key_reused() {
            let detail = ErrorInfo::new("IDEMPOTENCY_KEY_REUSED", pb::user_service::NAME);
            return Status::failed_precondition(
                "idempotency-key was given before, with another name or e-mail address, or for \
                 another stream",
            )
            .with_detail(&detail);
        }
        let (code, message) = if error.is_unavailable() {
            (Code::Unavailable, "the user store is not available now")
        } else if error.is_unknown() {
            (
                Code::Unknown,
                "the user store lost an answer: it is unknown whether the change is stored",
            )
        } else if error.is_full() {
            (Code::ResourceExhausted, "the user store is full")
        } else if error.is_corrupt() {
            (Code::DataLoss, "the user store is damaged")
        } else {
            (Code::Internal, "the user store failed")
        };
        // The cause is for the operator: it may name hosts, files and statements.
        if error.is_unavailable() || error.is_unknown() {
            let mut away = AWAY.lock().unwrap_or_else(PoisonError::into_inner);
            away.log(|times| tracing::error!(%error, times, "user store"));
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

/// The status of a change that its client may repeat, whatever has become of it: an update, or a
/// creation with a key.
pub(super) fn repeatable(error: StoreError) -> Status {
    let is_unknown = error.is_unknown();
    let status = Status::from(error);
    if !is_unknown {
        return status;
    }
    let message = format!("{}; it is safe to repeat the call as it is", status.message());
    Status::unavailable(message).with_detail(&RetryInfo::after(RETRY_AFTER))
}

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Self {
        let message = invalid.to_string();
        Status::invalid_argument(message).with_detail(&bad_request(BadRequest::new(), "", invalid))
    }
}

/// Adds the violations to `detail`, their fields below `path`.
pub(super) fn bad_request(detail: BadRequest, path: &str, invalid: Invalid) -> BadRequest {
    invalid.violations.into_iter().fold(detail, |detail, violation| {
        detail.violation(format!("{path}{}", violation.field), violation.description)
    })
}

/// An id is repeated as it came, so that the client knows which one was meant; but not megabytes of
/// it, which no client takes as a header.
const REPEATED: usize = 64 * 1024;

/// `text` is what the client has sent: what is no id may be anything, and is not for the log.
pub(super) fn user_not_found(text: &str) -> Status {
    let mut ends = (0..=REPEATED.min(text.len())).rev();
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

//! The status of a call that exceeds a rate. `auth` and `rate_limit` both answer with it.

use std::time::Duration;

use crate::google::rpc::RetryInfo;
use crate::rate::Rate;
use crate::{AsciiKey, Metadata, Status};

/// The time after which a client that retries by itself may do so, in milliseconds (gRFC A6).
static RETRY_PUSHBACK: AsciiKey = AsciiKey::from_static("grpc-retry-pushback-ms");

/// Any negative value asks the client not to retry by itself.
#[cfg(feature = "rate-limit")]
const NO_RETRY: i32 = -1;

/// RESOURCE_EXHAUSTED: there were too many `units`. The client may retry after `wait`.
pub(super) fn retry_after(rate: Rate, units: &str, wait: Duration) -> Status {
    // Whole milliseconds, rounded up.
    let millis = wait.as_nanos().div_ceil(1_000_000);
    let mut metadata = Metadata::new();
    metadata.insert(&RETRY_PUSHBACK, i32::try_from(millis).unwrap_or(i32::MAX));
    let wait = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
    Status::resource_exhausted(message(rate, units, wait))
        .with_detail(&RetryInfo::after(wait))
        .with_metadata(metadata)
}

/// RESOURCE_EXHAUSTED that asks the client not to retry by itself.
#[cfg(feature = "rate-limit")]
pub(super) fn no_retry(rate: Rate, units: &str, wait: Duration) -> Status {
    let mut metadata = Metadata::new();
    metadata.insert(&RETRY_PUSHBACK, NO_RETRY);
    Status::resource_exhausted(message(rate, units, wait)).with_metadata(metadata)
}

fn message(Rate { calls, period }: Rate, units: &str, wait: Duration) -> String {
    format!("more than {calls} {units} in {period:?}: try again in {wait:?}")
}

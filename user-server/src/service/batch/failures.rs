use balafon::prost::Message;

use super::{USERS_FAILED, USERS_FAILURES};
use balafon::Metadata;
use balafon::rpc::BadRequest;

/// The largest `users-failures-bin`, encoded but not yet in base64: with the rest of the trailers
/// it stays below 8 KiB, the least that clients accept by default (grpc-java, C-core).
const MAX_FAILURES_LEN: usize = 4 * 1024;

/// Messages of a stream that made no user.
#[derive(Default)]
pub(super) struct Failures {
    messages: u64,
    detail: BadRequest,
    full: bool,
}

impl Failures {
    /// Counts a message; its violations are named as long as the trailers have room.
    pub(super) fn add(&mut self, violations: BadRequest) {
        self.messages += 1;
        let len = self.detail.encoded_len() + violations.encoded_len();
        self.full |= len > MAX_FAILURES_LEN;
        if !self.full {
            self.detail.field_violations.extend(violations.field_violations);
        }
    }

    pub(super) fn into_metadata(self) -> Metadata {
        let mut metadata = Metadata::new();
        metadata.insert(&USERS_FAILED, self.messages);
        if self.messages > 0 {
            metadata.insert_bin(&USERS_FAILURES, self.detail.encode_to_vec());
        }
        metadata
    }
}

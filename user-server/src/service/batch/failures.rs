//! The invalid messages of a `CreateUsers` stream.

use balafon::prost::Message;

use super::{USERS_FAILED, USERS_FAILURES};
use balafon::Metadata;
use balafon::google::rpc::BadRequest;

/// The maximum size of `users-failures-bin` in bytes, before base64. The trailers then stay below 8 KiB, the
/// smallest default limit of clients (grpc-java, C-core).
const MAX_FAILURES_LEN: usize = 4 * 1024;

/// The invalid messages of a stream.
#[derive(Default)]
pub(super) struct Failures {
    messages: u64,
    detail: BadRequest,
    full: bool,
}

impl Failures {
    /// Counts a message. Its violations are listed as long as they fit into the trailers.
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

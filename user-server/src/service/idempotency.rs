//! Calls that clients may repeat.

use std::sync::Arc;

use crate::store::IdempotencyKey;
use balafon::rpc::BadRequest;
use balafon::{AsciiKey, Call, Metadata, Status};

/// Request metadata of `CreateUser` and `CreateUsers`: a name of the client's own for this creation, so
/// that asking for it again, after an answer was lost, does not make another user.
pub static IDEMPOTENCY_KEY: AsciiKey = AsciiKey::from_static("idempotency-key");

/// Who calls: the same key of another caller is another key. The service looks for it in a call's
/// extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Arc<str>);

/// The longest key: several UUIDs, and a third of what stores can have as a key.
const MAX_LEN: usize = 255;

/// The key of a call, if it has one.
pub(super) fn key_of(call: &Call) -> Result<Option<IdempotencyKey>, Status> {
    let Some(key) = given(call.metadata())? else { return Ok(None) };
    Ok(Some(IdempotencyKey { principal: principal(call).to_owned(), key: key.to_owned() }))
}

/// Those whom nobody asked who they are have one name, and so their keys in common.
fn principal(call: &Call) -> &str {
    call.extensions().get::<Caller>().map_or("", |caller| &caller.0)
}

fn given(metadata: &Metadata) -> Result<Option<&str>, Status> {
    let mut values = metadata.as_headers().get_all(IDEMPOTENCY_KEY.as_str()).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=MAX_LEN).contains(&key.len()));
    match (key, values.next()) {
        (Some(key), None) => Ok(Some(key)),
        _ => {
            let wanted = "one key of 1 to 255 printable ASCII characters is accepted";
            let detail = BadRequest::new().violation(IDEMPOTENCY_KEY.as_str(), wanted);
            let message = format!("idempotency-key: {wanted}");
            Err(Status::invalid_argument(message).with_detail(&detail))
        }
    }
}

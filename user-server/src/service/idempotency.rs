//! Idempotency keys of calls.

use std::sync::Arc;

use crate::store::IdempotencyKey;
use balafon::google::rpc::BadRequest;
use balafon::{AsciiKey, Call, Metadata, Status};

/// Request metadata of `CreateUser` and `CreateUsers`: a key that the client chooses for the creation. A repeated
/// call with the same key creates no second user.
pub static IDEMPOTENCY_KEY: AsciiKey = AsciiKey::from_static("idempotency-key");

/// The identity of the caller. Equal keys of different callers are different keys. The service takes it from
/// the extensions of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Arc<str>);

/// The longest key, in bytes: it fits several UUIDs, and is a third of the longest key that stores can index.
const MAX_LEN: usize = 255;

/// The key of a call, if it has one.
pub(super) fn key_of(call: &Call) -> Result<Option<IdempotencyKey>, Status> {
    let Some(key) = key_in(call.metadata())? else { return Ok(None) };
    Ok(Some(IdempotencyKey { principal: principal(call).to_owned(), key: key.to_owned() }))
}

/// Unauthenticated callers share the empty principal, and so their keys.
fn principal(call: &Call) -> &str {
    call.extensions().get::<Caller>().map_or("", |caller| &caller.0)
}

fn key_in(metadata: &Metadata) -> Result<Option<&str>, Status> {
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

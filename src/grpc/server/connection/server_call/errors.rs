use h2::Reason;

use crate::grpc::status::Status;

/// The status of a stream that the client has reset (PROTOCOL-HTTP2, "Errors").
pub(super) fn status_of_reset(reason: Reason) -> Status {
    let text = format!("the client reset the stream: {reason}");
    match reason {
        Reason::CANCEL => Status::cancelled(text),
        Reason::REFUSED_STREAM => Status::unavailable(text),
        Reason::ENHANCE_YOUR_CALM => Status::resource_exhausted(text),
        Reason::INADEQUATE_SECURITY => Status::permission_denied(text),
        _ => Status::internal(text),
    }
}

/// The status of a call whose stream has failed.
pub(super) fn status_of(error: &h2::Error) -> Status {
    match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => status_of_reset(reason),
        Some(_) if error.is_library() => {
            Status::internal(format!("HTTP/2 protocol error by the client: {error}"))
        }
        _ => Status::cancelled("the connection was lost"),
    }
}

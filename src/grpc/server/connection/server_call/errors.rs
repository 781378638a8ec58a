use crate::grpc::server::transport::StreamError;
use crate::grpc::status::Status;
use crate::http2::error_code::ErrorCode;

/// The status of a call whose stream has failed (PROTOCOL-HTTP2, "Errors").
pub(super) fn status_of(error: &StreamError) -> Status {
    match error {
        StreamError::Reset(code) => status_of_reset(*code),
        StreamError::Protocol(text) => {
            Status::internal(format!("HTTP/2 protocol error by the client: {text}"))
        }
        StreamError::ConnectionLost => Status::cancelled("the connection was lost"),
    }
}

fn status_of_reset(code: ErrorCode) -> Status {
    let text = format!("the client reset the stream: {code}");
    match code {
        ErrorCode::CANCEL => Status::cancelled(text),
        ErrorCode::REFUSED_STREAM => Status::unavailable(text),
        ErrorCode::ENHANCE_YOUR_CALM => Status::resource_exhausted(text),
        ErrorCode::INADEQUATE_SECURITY => Status::permission_denied(text),
        _ => Status::internal(text),
    }
}

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderMap;

use super::{Shared, lock};
use crate::grpc::server::transport::{Stream, StreamError};
use crate::http2::connection::{Failure, Key, Read};
use crate::http2::error_code::ErrorCode;

/// A stream of the engine.
pub(crate) struct NativeStream {
    key: Key,
    shared: Arc<Mutex<Shared>>,
}

impl NativeStream {
    pub(super) fn new(key: Key, shared: Arc<Mutex<Shared>>) -> Self {
        Self { key, shared }
    }
}

impl Stream for NativeStream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        let mut shared = lock(&self.shared);
        match shared.engine.read(self.key) {
            Read::Data(data) => Poll::Ready(Some(Ok(data))),
            Read::End => Poll::Ready(None),
            Read::Failed(failure) => Poll::Ready(Some(Err(failure.into()))),
            Read::Pending => {
                shared.register(self.key, cx.waker());
                Poll::Pending
            }
        }
    }

    fn release(&mut self, bytes: usize) {
        lock(&self.shared).engine.release(self.key, bytes);
    }

    fn send_headers(
        &mut self,
        status: StatusCode,
        headers: Cow<'_, HeaderMap>,
        end: bool,
    ) -> Result<(), StreamError> {
        lock(&self.shared).engine.send_headers(self.key, status, &headers, end)?;
        Ok(())
    }

    fn poll_capacity(
        &mut self,
        wanted: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, StreamError>> {
        let mut shared = lock(&self.shared);
        match shared.engine.capacity(self.key, wanted) {
            Ok(0) => {
                shared.register(self.key, cx.waker());
                Poll::Pending
            }
            Ok(count) => Poll::Ready(Ok(count)),
            Err(failure) => Poll::Ready(Err(failure.into())),
        }
    }

    fn send_data(&mut self, data: Bytes, end: bool) -> Result<(), StreamError> {
        lock(&self.shared).engine.send_data(self.key, data, end)?;
        Ok(())
    }

    fn send_trailers(&mut self, trailers: Cow<'_, HeaderMap>) {
        // Fails only if the stream is gone.
        let _ = lock(&self.shared).engine.send_trailers(self.key, &trailers);
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut shared = lock(&self.shared);
        match shared.engine.failure(self.key) {
            Some(failure) => Poll::Ready(failure.into()),
            None => {
                shared.register(self.key, cx.waker());
                Poll::Pending
            }
        }
    }

    fn reset(&mut self, code: ErrorCode) {
        lock(&self.shared).engine.reset(self.key, code);
    }
}

impl Drop for NativeStream {
    fn drop(&mut self) {
        lock(&self.shared).finish(self.key);
    }
}

impl From<Failure> for StreamError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Reset(code) => Self::Reset(code),
            Failure::Protocol(reason) => Self::Protocol(reason.into()),
            Failure::Cancelled | Failure::ConnectionLost => Self::ConnectionLost,
        }
    }
}

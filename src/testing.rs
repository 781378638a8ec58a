//! Calling handlers in unit tests, without a network.
//!
//! A test awaits unary methods directly. For streams, a [`Recorder`] records the messages of a handler,
//! [`Streaming::from_messages`] gives it requests, and [`requests`] sends them one at a time.
//! [`intercept`] runs an interceptor. A test also needs an executor, such as tokio with the features
//! `macros` and `rt`.
//!
//! ```
//! use balafon::testing::Recorder;
//! use balafon::{Request, Sink, Status};
//!
//! async fn count_down(request: Request<u32>, mut out: Sink<u32>) -> Result<(), Status> {
//!     for number in (1..=request.message).rev() {
//!         out.send(number).await?;
//!     }
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let recorder = Recorder::new();
//! recorder.record(|out| count_down(Request::new(3), out)).await;
//! assert_eq!(recorder.values(), [3, 2, 1]);
//! assert!(recorder.is_completed());
//! # }
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;

use crate::grpc::exchange::Exchange;
use crate::grpc::frame::FrameDecoder;
use crate::grpc::handler::raw;
use crate::{
    Call, Interceptor, Metadata, MetadataMut, Method, Next, Outcome, Sink, Status, Streaming,
    UNKNOWN_METHOD,
};

/// Records the messages that a handler puts into its [`Sink`], and its result. It takes any number of
/// messages.
pub struct Recorder<T> {
    exchange: Arc<Exchange>,
    recorded: Mutex<Recorded<T>>,
}

struct Recorded<T> {
    decoder: FrameDecoder,
    values: Vec<T>,
    result: Option<Result<(), Status>>,
}

impl<T: Message + Default + Clone> Recorder<T> {
    /// An empty recorder.
    pub fn new() -> Self {
        let recorded =
            Recorded { decoder: FrameDecoder::new(usize::MAX), values: Vec::new(), result: None };
        Self { exchange: Exchange::detached(&UNKNOWN_METHOD), recorded: Mutex::new(recorded) }
    }

    /// Runs a handler to its end, with a sink of this recorder.
    pub async fn record<Fut>(&self, handler: impl FnOnce(Sink<T>) -> Fut)
    where
        Fut: Future<Output = Result<(), Status>>,
    {
        let result = handler(self.sink()).await;
        self.lock().result = Some(result);
    }

    /// A sink whose messages are recorded, for a handler that is run in another way.
    pub fn sink(&self) -> Sink<T> {
        Sink::new(self.exchange.clone())
    }

    /// The messages so far.
    ///
    /// # Panics
    /// If an encoded message cannot be decoded.
    pub fn values(&self) -> Vec<T> {
        let mut recorded = self.lock();
        let outbound = &mut self.exchange.lock().outbound;
        let count = outbound.buffered();
        recorded.decoder.push(outbound.split(count));
        while let Some(frame) = recorded.decoder.next_frame().expect("frames were encoded whole") {
            let value = T::decode(frame.payload).expect("what was encoded can be decoded");
            recorded.values.push(value);
        }
        recorded.values.clone()
    }

    /// The initial metadata.
    pub fn metadata(&self) -> Metadata {
        self.exchange.lock().outbound.metadata.clone()
    }

    /// The trailing metadata.
    pub fn trailers(&self) -> Metadata {
        MetadataMut::trailing(&self.exchange).clone()
    }

    /// Whether the handler has returned without an error.
    pub fn is_completed(&self) -> bool {
        matches!(self.lock().result, Some(Ok(())))
    }

    /// The error that the handler has returned.
    pub fn error(&self) -> Option<Status> {
        self.lock().result.clone()?.err()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Recorded<T>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Message + Default + Clone> Default for Recorder<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Recorder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// A call of a method, without metadata and messages, for [`intercept`].
pub fn call(method: &'static Method) -> Call {
    Call::detached(method)
}

/// Runs an interceptor around a handler. The call is a [`call`] of a method, or the call of a
/// [`Request`](crate::Request).
///
/// ```
/// use balafon::testing::intercept;
/// use balafon::{AsciiKey, Call, Code, Interceptor, Next, Outcome, Request, Status};
///
/// static AUTHORIZATION: AsciiKey = AsciiKey::from_static("authorization");
///
/// struct Auth;
///
/// impl Interceptor for Auth {
///     async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
///         match call.metadata().get(&AUTHORIZATION) {
///             Some("Bearer letmein") => next.run(call).await,
///             _ => Status::unauthenticated("wanted a bearer token").into(),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let (_, call) = Request::new(()).into_parts();
/// let outcome = intercept(&Auth, call, |_| async { Outcome::ok() }).await;
/// assert_eq!(outcome.status.code(), Code::Unauthenticated);
/// # }
/// ```
pub async fn intercept<F, Fut>(interceptor: &impl Interceptor, call: Call, handler: F) -> Outcome
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let handler = raw(handler);
    let exchange = call.exchange().clone();
    let next = Next { interceptors: &[], handler: &*handler, exchange: &exchange };
    interceptor.intercept(call, next).await
}

/// A stream of requests, to which a test sends while the handler runs.
pub fn requests<T: Message + Default>() -> (Requests<T>, Streaming<T>) {
    let exchange = Exchange::detached(&UNKNOWN_METHOD);
    let requests = Requests { exchange: exchange.clone(), messages: PhantomData };
    (requests, Streaming::new(exchange))
}

/// The client's side of a stream of requests. Dropping it without a half-close cancels the call.
pub struct Requests<T> {
    exchange: Arc<Exchange>,
    messages: PhantomData<fn(T)>,
}

impl<T: Message> Requests<T> {
    /// Sends a message.
    pub fn send(&self, message: &T) {
        let mut wire = bytes::BytesMut::new();
        crate::grpc::frame::encode(&mut wire, message, usize::MAX)
            .expect("a message of less than 4 GiB");
        self.with_inbound(|inbound| inbound.receive(wire.freeze()));
    }

    /// Ends the stream.
    pub fn half_close(self) {
        self.with_inbound(|inbound| inbound.finish(Ok(())));
    }
}

impl<T> Requests<T> {
    fn with_inbound(&self, change: impl FnOnce(&mut crate::grpc::exchange::Inbound)) {
        let mut state = self.exchange.lock();
        change(&mut state.inbound);
        let reader = state.inbound.take_reader();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl<T> Drop for Requests<T> {
    fn drop(&mut self) {
        // After a half-close this changes nothing: the first end counts.
        self.with_inbound(|inbound| {
            inbound.finish(Err(Status::cancelled("the client went away")));
        });
    }
}

impl<T> fmt::Debug for Requests<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

//! Adapters from the four kinds of RPC to one [`Handler`]: a function from a call to an outcome.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;

use prost::Message;

use super::call::{Call, Outcome};
use super::call_boundary::CallBoundary;
use super::exchange::Exchange;
use super::request::{Request, Response, only_message};
use super::sink::Sink;
use super::status::Status;
use super::streaming::Streaming;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The handler of a path: one of the four kinds of RPC, or a fallback.
pub(crate) trait Handler: Send + Sync + 'static {
    fn handle(&self, call: Call) -> BoxFuture<'static, Outcome>;
}

/// One request, one response.
pub(crate) fn unary<T, Req, Res, F, Fut>(target: Arc<T>, function: F) -> Arc<dyn Handler>
where
    T: Send + Sync + 'static,
    Req: Message + Default + 'static,
    Res: Message + 'static,
    F: Fn(Arc<T>, Request<Req>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<Res>, Status>> + Send,
{
    shape(target, move |target, call| {
        let function = function.clone();
        async move {
            let message = only_message(call.exchange()).await?;
            function(target, Request::of_call(message, call)).await
        }
    })
}

/// One request, a stream of responses.
pub(crate) fn server_streaming<T, Req, Res, F, Fut>(target: Arc<T>, function: F) -> Arc<dyn Handler>
where
    T: Send + Sync + 'static,
    Req: Message + Default + 'static,
    Res: Message + 'static,
    F: Fn(Arc<T>, Request<Req>, Sink<Res>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Status>> + Send,
{
    shape(target, move |target, call| {
        let function = function.clone();
        async move {
            let message = only_message(call.exchange()).await?;
            let sink = Sink::new(call.exchange().clone());
            function(target, Request::of_call(message, call), sink).await
        }
    })
}

/// A stream of requests, one response.
pub(crate) fn client_streaming<T, Req, Res, F, Fut>(target: Arc<T>, function: F) -> Arc<dyn Handler>
where
    T: Send + Sync + 'static,
    Req: Message + Default + 'static,
    Res: Message + 'static,
    F: Fn(Arc<T>, Request<Streaming<Req>>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<Res>, Status>> + Send,
{
    shape(target, move |target, call| {
        let function = function.clone();
        async move {
            let messages = Streaming::new(call.exchange().clone());
            function(target, Request::of_call(messages, call)).await
        }
    })
}

/// A stream of requests, a stream of responses.
pub(crate) fn bidi_streaming<T, Req, Res, F, Fut>(target: Arc<T>, function: F) -> Arc<dyn Handler>
where
    T: Send + Sync + 'static,
    Req: Message + Default + 'static,
    Res: Message + 'static,
    F: Fn(Arc<T>, Request<Streaming<Req>>, Sink<Res>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Status>> + Send,
{
    shape(target, move |target, call| {
        let function = function.clone();
        async move {
            let messages = Streaming::new(call.exchange().clone());
            let sink = Sink::new(call.exchange().clone());
            function(target, Request::of_call(messages, call), sink).await
        }
    })
}

/// A handler of a function from a call to an outcome.
pub(crate) fn raw<F, Fut>(function: F) -> Arc<dyn Handler>
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    Arc::new(Bound { target: Arc::new(function), function: |target: Arc<F>, call| target(call) })
}

/// A function from a call to an outcome, with its shared service.
struct Bound<T, F> {
    target: Arc<T>,
    function: F,
}

impl<T, F, Fut> Handler for Bound<T, F>
where
    T: Send + Sync + 'static,
    F: Fn(Arc<T>, Call) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    fn handle(&self, mut call: Call) -> BoxFuture<'static, Outcome> {
        let exchange = call.exchange().clone();
        let spawned = call.take_spawned();
        let run = || (self.function)(self.target.clone(), call);
        match spawned {
            None => Box::pin(CallBoundary::of_handler(exchange, run)),
            Some(spawned) => Box::pin(CallBoundary::of_handler(exchange, || spawned.start(run()))),
        }
    }
}

/// Makes a handler of a function that returns a result. All four kinds of RPC use it.
fn shape<T, F, Fut, R>(target: Arc<T>, function: F) -> Arc<dyn Handler>
where
    T: Send + Sync + 'static,
    F: Fn(Arc<T>, Call) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Status>> + Send + 'static,
    R: Reply,
{
    let function = move |target, call: Call| {
        let (exchange, function) = (call.exchange().clone(), function.clone());
        async move {
            // Made here: a future that is moved in would take its memory twice.
            let result = function(target, call).await.and_then(|reply| reply.send(&exchange));
            let (result, trailers) = match result {
                // An interceptor gets the outcome once the client has read nearly all of the
                // response.
                Ok(()) => poll_fn(|cx| exchange.poll_nearly_sent(cx)).await,
                Err(status) => (Err(status), exchange.take_trailers()),
            };
            let mut outcome = match result {
                Ok(()) => Outcome::ok(),
                Err(status) => status.into(),
            };
            outcome.trailers.merge(trailers);
            outcome
        }
    };
    Arc::new(Bound { target, function })
}

/// The value that a handler returns: a response that is still to be sent, or `()` after a stream.
trait Reply: Send {
    fn send(self, exchange: &Exchange) -> Result<(), Status>;
}

impl Reply for () {
    fn send(self, _: &Exchange) -> Result<(), Status> {
        Ok(())
    }
}

impl<T: Message> Reply for Response<T> {
    fn send(self, exchange: &Exchange) -> Result<(), Status> {
        exchange.respond(&self.message, self.metadata, self.trailers)
    }
}

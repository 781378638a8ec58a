//! The four shapes of an RPC, brought to one: a call in, an outcome out.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;

use prost::Message;

use super::call::{Call, Outcome};
use super::exchange::Exchange;
use super::guard::Guard;
use super::message::{Request, Response, Sink, Streaming, only_message};
use super::status::Status;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a path leads to: any of the four shapes, or a fallback.
pub(crate) trait Handler: Send + Sync + 'static {
    fn handle(&self, call: Call) -> BoxFuture<'static, Outcome>;
}

/// One request, one response.
pub(crate) fn unary<T, Req, Res, F, Fut>(target: Arc<T>, function: F) -> Arc<dyn Handler>
where
    T: Send + Sync + 'static,
    Req: Message + Default + 'static,
    Res: Message + 'static,
    F: Fn(Arc<T>, Request<Req>) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<Res>, Status>> + Send,
{
    shape(move |call: Call| {
        let target = target.clone();
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
    F: Fn(Arc<T>, Request<Req>, Sink<Res>) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Status>> + Send,
{
    shape(move |call: Call| {
        let target = target.clone();
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
    F: Fn(Arc<T>, Request<Streaming<Req>>) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<Res>, Status>> + Send,
{
    shape(move |call: Call| {
        let target = target.clone();
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
    F: Fn(Arc<T>, Request<Streaming<Req>>, Sink<Res>) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Status>> + Send,
{
    shape(move |call: Call| {
        let target = target.clone();
        async move {
            let messages = Streaming::new(call.exchange().clone());
            let sink = Sink::new(call.exchange().clone());
            function(target, Request::of_call(messages, call), sink).await
        }
    })
}

/// Any function from a call to an outcome.
pub(crate) fn raw<F, Fut>(function: F) -> Arc<dyn Handler>
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    Arc::new(Raw(function))
}

struct Raw<F>(F);

impl<F, Fut> Handler for Raw<F>
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    fn handle(&self, mut call: Call) -> BoxFuture<'static, Outcome> {
        let exchange = call.exchange().clone();
        match call.take_apart() {
            None => Box::pin(Guard::of_handler(exchange, || (self.0)(call))),
            Some(apart) => Box::pin(Guard::of_handler(exchange, || apart.start((self.0)(call)))),
        }
    }
}

/// What all shapes have in common: how a result becomes an outcome.
fn shape<F, Fut, R>(function: F) -> Arc<dyn Handler>
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Status>> + Send + 'static,
    R: Reply,
{
    raw(move |call: Call| {
        let exchange = call.exchange().clone();
        let running = function(call);
        async move {
            let mut outcome = match running.await.and_then(|reply| reply.send(&exchange)) {
                // Only when nearly all is sent is the end in sight that interceptors wait for.
                Ok(()) => match poll_fn(|cx| exchange.poll_nearly_sent(cx)).await {
                    Ok(()) => Outcome::ok(),
                    Err(status) => status.into(),
                },
                Err(status) => status.into(),
            };
            let set = std::mem::take(&mut exchange.lock().outbound.trailers);
            outcome.trailers.merge(set);
            outcome
        }
    })
}

/// What a handler leaves to be sent when it returns: a response, or nothing more than it streamed.
trait Reply: Send {
    fn send(self, exchange: &Exchange) -> Result<(), Status>;
}

impl Reply for () {
    fn send(self, _: &Exchange) -> Result<(), Status> {
        Ok(())
    }
}

impl<T: Message> Reply for Response<T> {
    /// The metadata first: the message is what sends the headers off.
    fn send(self, exchange: &Exchange) -> Result<(), Status> {
        let mut state = exchange.lock();
        state.outbound.metadata.merge(self.metadata);
        state.outbound.trailers.merge(self.trailers);
        drop(state);
        exchange.write(&self.message, true)
    }
}

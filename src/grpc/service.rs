use std::fmt;
use std::future::Future;
use std::sync::Arc;

use prost::Message;

use super::handler::{self, Handler};
use super::interceptor::{DynInterceptor, Interceptor};
use super::method::{Method, Rpc};
use super::request::{Request, Response};
use super::sink::Sink;
use super::status::Status;
use super::streaming::Streaming;

/// A service implementation for [`Router::add`](crate::Router::add). Generated code makes it with
/// `into_service()` of the service's trait.
pub struct Service {
    pub(crate) info: ServiceInfo,
    pub(crate) handlers: Vec<(&'static Method, Arc<dyn Handler>)>,
    /// The limit of received messages that the service sets for itself.
    pub(crate) max_receive: Option<usize>,
    pub(crate) interceptors: Vec<Arc<dyn DynInterceptor>>,
}

/// The name and the descriptors of a service.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct ServiceInfo {
    /// The full name, such as `helloworld.Greeter`.
    pub name: &'static str,
    /// A serialized `google.protobuf.FileDescriptorSet`: all imported files, then the file that
    /// defines the service.
    pub file_descriptor_set: &'static [u8],
}

impl Service {
    /// Starts a service on `target`. The builder adds its methods one by one.
    pub fn builder<T: Send + Sync + 'static>(
        name: &'static str,
        file_descriptor_set: &'static [u8],
        target: T,
    ) -> ServiceBuilder<T> {
        ServiceBuilder {
            service: Self {
                info: ServiceInfo { name, file_descriptor_set },
                handlers: Vec::new(),
                max_receive: None,
                interceptors: Vec::new(),
            },
            target: Arc::new(target),
        }
    }

    /// Returns the service's name and descriptors.
    pub fn info(&self) -> ServiceInfo {
        self.info
    }

    /// Removes a method by its name, such as `List`. Calls to it end with UNIMPLEMENTED. Reflection
    /// still describes it.
    ///
    /// # Panics
    /// If the service has no method of that name: otherwise a misspelt name would leave the method
    /// served.
    #[must_use]
    pub fn without(mut self, method: &str) -> Self {
        let before = self.handlers.len();
        self.handlers.retain(|(known, _)| known.name != method);
        assert!(self.handlers.len() < before, "{} has no method {method}", self.info.name);
        self
    }

    /// Limits the messages that this service receives to this many bytes, before and after
    /// decompression. The lower of this limit and the server's applies. A limit set with
    /// [`Router::configure`](crate::Router::configure) for the service or a method overrides both.
    #[must_use]
    pub fn max_receive_message_size(mut self, bytes: usize) -> Self {
        self.max_receive = Some(bytes);
        self
    }

    /// Wraps an interceptor around the calls of this service. It runs inside the router's
    /// interceptors. The first one added is the outermost.
    #[must_use]
    pub fn intercept(mut self, interceptor: impl Interceptor) -> Self {
        self.interceptors.push(Arc::new(interceptor));
        self
    }

    /// Returns the service's methods.
    pub fn methods(&self) -> impl Iterator<Item = &'static Method> {
        self.handlers.iter().map(|(method, _)| *method)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<_> = self.methods().map(|method| method.name).collect();
        f.debug_struct("Service").field("name", &self.info.name).field("methods", &methods).finish()
    }
}

impl fmt::Debug for ServiceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceInfo").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Builds a [`Service`]: binds each method's descriptor to the function that implements it.
pub struct ServiceBuilder<T> {
    service: Service,
    target: Arc<T>,
}

impl<T: Send + Sync + 'static> ServiceBuilder<T> {
    /// Adds a method with one request and one response.
    #[must_use]
    pub fn unary<Req, Res, F, Fut>(self, rpc: &'static Rpc<Req, Res>, function: F) -> Self
    where
        Req: Message + Default + 'static,
        Res: Message + 'static,
        F: Fn(Arc<T>, Request<Req>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<Res>, Status>> + Send,
    {
        let handler = handler::unary(self.target.clone(), function);
        self.add(rpc.method(), handler)
    }

    /// Adds a method with one request and a stream of responses.
    #[must_use]
    pub fn server_streaming<Req, Res, F, Fut>(
        self,
        rpc: &'static Rpc<Req, Res>,
        function: F,
    ) -> Self
    where
        Req: Message + Default + 'static,
        Res: Message + 'static,
        F: Fn(Arc<T>, Request<Req>, Sink<Res>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Status>> + Send,
    {
        let handler = handler::server_streaming(self.target.clone(), function);
        self.add(rpc.method(), handler)
    }

    /// Adds a method with a stream of requests and one response.
    #[must_use]
    pub fn client_streaming<Req, Res, F, Fut>(
        self,
        rpc: &'static Rpc<Req, Res>,
        function: F,
    ) -> Self
    where
        Req: Message + Default + 'static,
        Res: Message + 'static,
        F: Fn(Arc<T>, Request<Streaming<Req>>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<Res>, Status>> + Send,
    {
        let handler = handler::client_streaming(self.target.clone(), function);
        self.add(rpc.method(), handler)
    }

    /// Adds a method with a stream of requests and a stream of responses.
    #[must_use]
    pub fn bidi_streaming<Req, Res, F, Fut>(self, rpc: &'static Rpc<Req, Res>, function: F) -> Self
    where
        Req: Message + Default + 'static,
        Res: Message + 'static,
        F: Fn(Arc<T>, Request<Streaming<Req>>, Sink<Res>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Status>> + Send,
    {
        let handler = handler::bidi_streaming(self.target.clone(), function);
        self.add(rpc.method(), handler)
    }

    /// Returns the service with the methods added so far.
    pub fn build(self) -> Service {
        self.service
    }

    fn add(mut self, method: &'static Method, handler: Arc<dyn Handler>) -> Self {
        self.service.handlers.push((method, handler));
        self
    }
}

impl<T> fmt::Debug for ServiceBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(f)
    }
}

use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::call::{Call, Outcome};
use super::handler::{self, BoxFuture, Handler};
use super::interceptor::{DynInterceptor, Intercepted, Interceptor, Next};
use super::method::{Method, Rpc, UNKNOWN_METHOD};
use super::options::CallOptions;
use super::service::{Service, ServiceInfo};
use super::status::Status;

/// Services by path, and the interceptors around all calls.
///
/// Paths match exactly and case-sensitively. No query is removed and nothing is decoded, so
/// [`Call::path`] always returns the path that was routed.
pub struct Router {
    /// Clients look up any path, but only the server inserts keys. So the hash need not resist
    /// chosen keys and can be a fast one.
    routes: FxHashMap<&'static str, Route>,
    services: Vec<ServiceInfo>,
    interceptors: Vec<Arc<dyn DynInterceptor>>,
    fallback: Route,
}

pub(crate) struct Route {
    pub(crate) method: &'static Method,
    handler: Arc<dyn Handler>,
    of_service: CallOptions,
    of_method: CallOptions,
    /// The two of them together.
    own: CallOptions,
    /// The service's own limit, [`Service::max_receive_message_size`].
    max_receive: Option<usize>,
}

impl Route {
    fn new(method: &'static Method, handler: Arc<dyn Handler>) -> Self {
        let none = CallOptions::new();
        Self { method, handler, of_service: none, of_method: none, own: none, max_receive: None }
    }

    /// Returns the settings of the method, else of its service, else of the server.
    pub(crate) fn options(&self, of_server: &CallOptions) -> CallOptions {
        let options = self.own.or(of_server);
        match self.max_receive {
            Some(bytes) if self.own.max_receive_message_size.is_none() => {
                options.max_receive_message_size(bytes.min(options.receive_limit()))
            }
            _ => options,
        }
    }
}

impl Router {
    /// A router that answers UNIMPLEMENTED to every path.
    pub fn new() -> Self {
        let handler = handler::raw(|call| async move { unimplemented_path(&call).into() });
        Self {
            routes: FxHashMap::default(),
            services: Vec::new(),
            interceptors: Vec::new(),
            fallback: Route::new(&UNKNOWN_METHOD, handler),
        }
    }

    /// Adds a service.
    ///
    /// # Panics
    /// If a method with the same path was added before: one of the two could never be called.
    #[must_use]
    #[allow(clippy::should_implement_trait)] // A verb of this builder, not an operator.
    pub fn add(mut self, service: Service) -> Self {
        self.services.push(service.info);
        let interceptors: Arc<[_]> = service.interceptors.into();
        for (method, mut handler) in service.handlers {
            if !interceptors.is_empty() {
                handler = Arc::new(Intercepted { interceptors: interceptors.clone(), handler });
            }
            let route = Route { max_receive: service.max_receive, ..Route::new(method, handler) };
            let earlier = self.routes.insert(method.path, route);
            assert!(earlier.is_none(), "{method} was added to the router before");
        }
        self
    }

    /// Sets the options of a service or of a method. It is given by name (`helloworld.Greeter`,
    /// `helloworld.Greeter/SayHello`) or by its descriptor, such as `&greeter::SAY_HELLO`. Options
    /// that are set again replace the earlier ones.
    ///
    /// # Panics
    /// If no service or method of that name was added: a limit under a misspelt name would not
    /// apply.
    #[must_use]
    pub fn configure<'n>(mut self, name: impl Into<ConfigName<'n>>, options: CallOptions) -> Self {
        let ConfigName(name) = name.into();
        let mut found = false;
        for route in self.routes.values_mut() {
            let Method { path, service, .. } = route.method;
            if *service == name {
                route.of_service = options;
                found = true;
            } else if path.strip_prefix('/') == Some(name) {
                route.of_method = options;
                found = true;
            }
            route.own = route.of_method.or(&route.of_service);
        }
        assert!(found, "{name} is no service or method that was added to the router");
        self
    }

    /// Wraps an interceptor around the calls of all services, including health and reflection, and
    /// around calls of unknown methods. The first interceptor added is the outermost.
    #[must_use]
    pub fn intercept(mut self, interceptor: impl Interceptor) -> Self {
        self.interceptors.push(Arc::new(interceptor));
        self
    }

    /// Replaces the response to unknown paths, which is UNIMPLEMENTED.
    #[must_use]
    pub fn fallback<F, Fut>(mut self, function: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.fallback.handler = handler::raw(function);
        self
    }

    /// Returns the services added so far.
    pub fn services(&self) -> &[ServiceInfo] {
        &self.services
    }

    /// Returns the methods of all services added so far, in no particular order.
    pub fn methods(&self) -> impl Iterator<Item = &'static Method> {
        self.routes.values().map(|route| route.method)
    }

    /// Whether [`spawn`](CallOptions::spawn) is set for any method.
    pub(crate) fn spawns(&self, of_server: &CallOptions) -> bool {
        let mut routes = self.routes.values().chain([&self.fallback]);
        routes.any(|route| route.options(of_server).spawns())
    }

    /// Runs a call through the interceptors and the handler of its route.
    pub(crate) fn run(self: &Arc<Self>, route: &Route, call: Call) -> BoxFuture<'static, Outcome> {
        self.run_with(&route.handler, call)
    }

    /// Runs a call that cannot be served through the interceptors, with the status `why`.
    pub(crate) fn refuse(self: &Arc<Self>, call: Call, why: Status) -> BoxFuture<'static, Outcome> {
        let handler = handler::raw(move |_| ready(why.clone().into()));
        self.run_with(&handler, call)
    }

    fn run_with(
        self: &Arc<Self>,
        handler: &Arc<dyn Handler>,
        call: Call,
    ) -> BoxFuture<'static, Outcome> {
        if self.interceptors.is_empty() {
            return handler.handle(call);
        }
        let (router, handler, exchange) = (self.clone(), handler.clone(), call.exchange().clone());
        Box::pin(async move {
            let interceptors = &*router.interceptors;
            Next { interceptors, handler: &*handler, exchange: &exchange }.run(call).await
        })
    }

    /// Returns the route of `path`, or the fallback with [`UNKNOWN_METHOD`].
    pub(crate) fn route(&self, path: &str) -> &Route {
        self.routes.get(path).unwrap_or(&self.fallback)
    }
}

/// The name of a service or a method for [`Router::configure`]. It is made from text, a [`Method`],
/// an [`Rpc`] or a [`ServiceInfo`].
#[derive(Debug, Clone, Copy)]
pub struct ConfigName<'n>(&'n str);

impl<'n> From<&'n str> for ConfigName<'n> {
    fn from(name: &'n str) -> Self {
        Self(name)
    }
}

impl<'n> From<&'n Method> for ConfigName<'n> {
    fn from(method: &'n Method) -> Self {
        Self(method.path.trim_start_matches('/'))
    }
}

impl<'n, Req, Res> From<&'n Rpc<Req, Res>> for ConfigName<'n> {
    fn from(rpc: &'n Rpc<Req, Res>) -> Self {
        rpc.method().into()
    }
}

impl From<ServiceInfo> for ConfigName<'static> {
    fn from(service: ServiceInfo) -> Self {
        Self(service.name)
    }
}

fn unimplemented_path(call: &Call) -> Status {
    Status::unimplemented(format!("unknown method {}", call.path()))
        .with_log_message("unknown method")
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("services", &self.services)
            .field("interceptors", &self.interceptors.len())
            .finish_non_exhaustive()
    }
}

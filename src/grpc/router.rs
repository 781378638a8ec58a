use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use super::call::{Call, Outcome};
use super::guard::Guard;
use super::handler::{self, BoxFuture, Handler};
use super::interceptor::{DynInterceptor, Interceptor, Next};
use super::method::{Method, UNKNOWN_METHOD};
use super::service::{Service, ServiceInfo};
use super::status::Status;

/// Services by path, and the interceptors around all of them.
///
/// Paths match exactly: case-sensitively, with no query stripped and nothing decoded, so what an
/// interceptor sees in [`Call::path`] is what was routed.
pub struct Router {
    routes: HashMap<&'static str, Route>,
    services: Vec<ServiceInfo>,
    interceptors: Vec<Arc<dyn DynInterceptor>>,
    fallback: Route,
}

#[derive(Clone)]
struct Route {
    method: &'static Method,
    handler: Arc<dyn Handler>,
}

impl Router {
    /// A router that answers UNIMPLEMENTED to every path.
    pub fn new() -> Self {
        let handler = handler::raw(|call| async move { unimplemented_path(&call).into() });
        Self {
            routes: HashMap::new(),
            services: Vec::new(),
            interceptors: Vec::new(),
            fallback: Route { method: &UNKNOWN_METHOD, handler },
        }
    }

    /// Adds a service.
    ///
    /// # Panics
    /// If a method with the same path was added before: one of the two would never be called.
    #[must_use]
    #[allow(clippy::should_implement_trait)] // It is the verb of this builder, not an operator.
    pub fn add(mut self, service: Service) -> Self {
        self.services.push(service.info);
        for (method, handler) in service.handlers {
            let earlier = self.routes.insert(method.path, Route { method, handler });
            assert!(earlier.is_none(), "{method} was added to the router before");
        }
        self
    }

    /// Wraps an interceptor around all calls, also those of unknown methods. The first one is the
    /// outermost.
    #[must_use]
    pub fn intercept(mut self, interceptor: impl Interceptor) -> Self {
        self.interceptors.push(Arc::new(interceptor));
        self
    }

    /// Replaces the answer to paths that no service has, which is UNIMPLEMENTED.
    #[must_use]
    pub fn fallback<F, Fut>(mut self, function: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.fallback.handler = handler::raw(function);
        self
    }

    /// The services added so far.
    pub fn services(&self) -> &[ServiceInfo] {
        &self.services
    }

    /// The method at `path`; [`UNKNOWN_METHOD`] if there is none.
    pub(crate) fn method(&self, path: &str) -> &'static Method {
        self.route(path).method
    }

    /// Runs a call through the interceptors and its handler.
    pub(crate) fn run(self: &Arc<Self>, call: Call) -> BoxFuture<'static, Outcome> {
        let handler = &self.route(call.path()).handler;
        if self.interceptors.is_empty() {
            return handler.handle(call);
        }
        let (router, handler) = (self.clone(), handler.clone());
        Box::pin(Guard::new(call.exchange.clone(), async move {
            Next { interceptors: &router.interceptors, handler: &*handler }.run(call).await
        }))
    }

    fn route(&self, path: &str) -> &Route {
        self.routes.get(path).unwrap_or(&self.fallback)
    }
}

fn unimplemented_path(call: &Call) -> Status {
    Status::unimplemented(format!("unknown method {}", call.path()))
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

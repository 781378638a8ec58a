//! Limits how often a client may call.
//!
//! ```text
//! call -> rule       the first whose pattern matches the method
//!      -> client     the key, else the principal, else the address (../client.rs, ../proxies.rs)
//!      -> window     the calls of this client to this method (crate::rate):
//!                    in Redis if it is set and answers (shared.rs), else in memory
//! ```

#[cfg(all(test, feature = "redis"))]
mod agreement;
#[cfg(feature = "redis")]
mod shared;
#[cfg(feature = "redis")]
mod trouble;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "redis")]
pub use self::shared::{InvalidRedis, RedisUrl, SharedLimits};
use super::client::Client;
use super::proxies::Proxies;
use super::{InvalidPattern, MethodPattern, TrustedProxy, too_many};
use crate::rate::{Local, Rate, Taken};
use crate::{Call, Interceptor, Method, Next, Outcome};

/// Unless it is set: 12 MiB.
const CLIENTS: usize = 250_000;

/// Limits how often each client may call each method, or how many messages it may send to it. A
/// call above the limit ends with RESOURCE_EXHAUSTED. Its status says when the next call will pass:
/// by a [`RetryInfo`](crate::google::rpc::RetryInfo), and by `grpc-retry-pushback-ms` for clients that retry
/// by themselves.
///
/// The client is the [`Principal`](super::Principal) of the call: register this behind `Auth`. A
/// call without a principal counts for its address. Of an IPv6 address the /64 counts. For calls
/// that come from a [`trust_proxy`](Self::trust_proxy) the address is taken from `x-forwarded-for`.
/// [`key`](Self::key) replaces all of this. A call counts when it begins, however it ends.
///
/// Messages count when the handler takes them, for all calls of a client to a method together. The
/// message above the limit is not delivered: the handler gets RESOURCE_EXHAUSTED in its place, and
/// most handlers end the call with it. This status asks clients not to retry by themselves
/// (`grpc-retry-pushback-ms: -1`), since earlier messages may have taken effect. Each instance counts
/// messages for itself.
///
/// ```
/// use std::time::Duration;
///
/// use balafon::Router;
/// use balafon::interceptors::rate_limit::RateLimit;
///
/// let minute = Duration::from_secs(60);
/// let limit = RateLimit::new()
///     .unlimited("grpc.health.v1.Health/*")?
///     .limit("*/CreateUsers", 10, minute)?
///     .limit("*", 100, minute)?
///     .trust_proxy("10.0.0.0/8".parse()?);
/// let router = Router::new().intercept(limit);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RateLimit {
    rules: Vec<Rule>,
    proxies: Proxies,
    key: Option<Box<KeyFunction>>,
    local: Arc<Local>,
    #[cfg(feature = "redis")]
    shared: Option<SharedLimits>,
}

type KeyFunction = dyn Fn(&Call) -> Option<String> + Send + Sync;

#[derive(Debug)]
struct Rule {
    methods: MethodPattern,
    /// `None` is both calls and messages.
    counts: Option<Counted>,
    /// `None` is no limit.
    rate: Option<Rate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Counted {
    Calls,
    Messages,
}

impl RateLimit {
    /// No limits yet.
    pub fn new() -> Self {
        Self {
            rules: Vec::new(),
            proxies: Proxies::default(),
            key: None,
            local: Arc::new(Local::with_room_for(CLIENTS)),
            #[cfg(feature = "redis")]
            shared: None,
        }
    }

    /// Lets each client make so many `calls` to each of these methods in each `period`. The period
    /// begins with the client's first call. The first rule that matches a method applies to it.
    ///
    /// # Errors
    /// If `methods` is not a [`MethodPattern`].
    pub fn limit(
        self,
        methods: &str,
        calls: u32,
        period: Duration,
    ) -> Result<Self, InvalidPattern> {
        self.rule(methods, Some(Counted::Calls), Some(Rate { calls, period }))
    }

    /// Lets each client send so many `messages` to each of these methods in each `period`. The first
    /// rule for messages that matches a method applies to it, beside the first rule for calls.
    ///
    /// # Errors
    /// If `methods` is not a [`MethodPattern`].
    pub fn limit_messages(
        self,
        methods: &str,
        messages: u32,
        period: Duration,
    ) -> Result<Self, InvalidPattern> {
        self.rule(methods, Some(Counted::Messages), Some(Rate { calls: messages, period }))
    }

    /// Does not limit these methods, whatever later rules say.
    ///
    /// # Errors
    /// If `methods` is not a [`MethodPattern`].
    pub fn unlimited(self, methods: &str) -> Result<Self, InvalidPattern> {
        self.rule(methods, None, None)
    }

    fn rule(
        mut self,
        methods: &str,
        counts: Option<Counted>,
        rate: Option<Rate>,
    ) -> Result<Self, InvalidPattern> {
        self.rules.push(Rule { methods: methods.parse()?, counts, rate });
        Ok(self)
    }

    /// Counts calls by this key in place of the principal or the address: a tenant, for example.
    /// The function runs for each call to a limited method. Calls without a key (`None`) count for
    /// their principal or address.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use balafon::AsciiKey;
    /// use balafon::interceptors::rate_limit::RateLimit;
    ///
    /// static TENANT: AsciiKey = AsciiKey::from_static("x-tenant");
    ///
    /// let limit = RateLimit::new()
    ///     .limit("*", 1000, Duration::from_secs(60))?
    ///     .key(|call| call.metadata().get(&TENANT).map(str::to_owned));
    /// # Ok::<(), balafon::interceptors::InvalidPattern>(())
    /// ```
    ///
    /// A client can choose its metadata freely: use a value that an interceptor further out has
    /// verified.
    #[must_use]
    pub fn key<F>(mut self, key: F) -> Self
    where
        F: Fn(&Call) -> Option<String> + Send + Sync + 'static,
    {
        self.key = Some(Box::new(key));
        self
    }

    /// Trusts the `x-forwarded-for` of this proxy. May be repeated. In a chain of proxies each has to
    /// be trusted.
    #[must_use]
    pub fn trust_proxy(mut self, proxy: TrustedProxy) -> Self {
        self.proxies.0.push(proxy);
        self
    }

    /// The number of counts that are kept, one for each client and method: 250,000 unless set, which
    /// take 12 MiB. When the table is full, the count that has been idle longest is dropped first.
    /// A client whose count was dropped starts again from zero.
    #[must_use]
    pub fn room_for(mut self, clients: usize) -> Self {
        self.local = Arc::new(Local::with_room_for(clients.max(1)));
        self
    }

    /// Shares the limits with other instances.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn share(mut self, with: SharedLimits) -> Self {
        self.shared = Some(with);
        self
    }

    /// `None` if limits are not shared, or Redis is not available.
    #[cfg(feature = "redis")]
    async fn take_shared(&self, method: &Method, client: Client<'_>, rate: Rate) -> Option<Taken> {
        let shared = self.shared.as_ref()?;
        // On the heap: it would enlarge the future of every call.
        Box::pin(shared.take(method, client, rate)).await
    }

    #[cfg(not(feature = "redis"))]
    async fn take_shared(&self, _: &Method, _: Client<'_>, _: Rate) -> Option<Taken> {
        None
    }

    fn rate(&self, method: &Method, counted: Counted) -> Option<Rate> {
        let counts = |rule: &&Rule| rule.counts.is_none_or(|it| it == counted);
        let mut rules = self.rules.iter().filter(counts);
        rules.find(|rule| rule.methods.matches(method))?.rate
    }

    fn custom_key(&self, call: &Call) -> Option<String> {
        self.key.as_ref().and_then(|key| key(call))
    }

    /// Counts the messages of a call as the handler takes them, if a rule limits them.
    fn count_messages(&self, call: &mut Call) {
        let method = call.method();
        let Some(rate) = self.rate(method, Counted::Messages) else { return };
        let key = self.custom_key(call);
        let client = Client::new(key.as_deref(), call, &self.proxies);
        let counted = (std::ptr::from_ref(method).addr(), Counted::Messages, client);
        let (local, client) = (self.local.clone(), self.local.known(counted));
        call.admit_messages(move || {
            let taken = local.take_of(client, rate);
            taken.map_err(|wait| too_many::no_retry(rate, "messages", wait))
        });
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl Interceptor for RateLimit {
    async fn intercept(&self, mut call: Call, next: Next<'_>) -> Outcome {
        self.count_messages(&mut call);
        let method = call.method();
        let Some(rate) = self.rate(method, Counted::Calls) else { return next.run(call).await };
        let taken = {
            let key = self.custom_key(&call);
            let client = Client::new(key.as_deref(), &call, &self.proxies);
            match self.take_shared(method, client, rate).await {
                Some(taken) => taken,
                // There is one description of each method, and its address never changes.
                None => self.local.take((std::ptr::from_ref(method).addr(), client), rate),
            }
        };
        match taken {
            Ok(()) => next.run(call).await,
            Err(wait) => too_many::retry_after(rate, "calls", wait).into(),
        }
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interceptors::{Principal, PrincipalKind};
    use crate::testing::{self, intercept};
    use crate::{Code, Rpc, Status};

    static GET: Rpc<(), ()> = Rpc::unary("/a.Users/Get");

    /// Whether a call of this principal passes.
    async fn passes(limit: &RateLimit, name: &str) -> bool {
        let mut call = testing::call(&GET);
        call.extensions_mut().insert(Principal::new(name, PrincipalKind::Other));
        let handler = |_| std::future::ready(Status::ok().into());
        intercept(limit, call, handler).await.status.code() != Code::ResourceExhausted
    }

    #[tokio::test]
    async fn rate_limit_key_replaces_the_principal() {
        let tenant = |call: &Call| {
            let name = call.extensions().get::<Principal>()?.name();
            name.split_once('@').map(|(_, tenant)| tenant.to_owned())
        };
        let minute = Duration::from_secs(60);
        let limit = RateLimit::new().limit("*", 2, minute).unwrap().key(tenant);
        assert!(passes(&limit, "alice@a").await && passes(&limit, "bob@a").await);
        assert!(!passes(&limit, "carol@a").await, "the tenant has no calls left");
        assert!(passes(&limit, "alice@b").await);
        // Without a key the principal counts, and its name is not taken for a key.
        assert!(passes(&limit, "a").await && passes(&limit, "a").await);
        assert!(!passes(&limit, "a").await);
    }
}

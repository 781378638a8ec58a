//! How often a client may call.
//!
//! ```text
//! call -> rule       the first whose pattern has the method
//!      -> client     the principal, else the address (client.rs, ../proxies.rs)
//!      -> window     the calls of this client to this method (crate::rate)
//!                    in Redis, if there is one and it answers (shared.rs), else in memory
//! ```

#[cfg(all(test, feature = "redis"))]
mod agreement;
mod client;
#[cfg(feature = "redis")]
mod shared;
#[cfg(feature = "redis")]
mod trouble;

use std::sync::Arc;
use std::time::Duration;

pub(super) use self::client::Client;
#[cfg(feature = "redis")]
pub use self::shared::{InvalidRedis, RedisUrl, SharedLimits};
use super::proxies::Proxies;
pub use super::proxies::{InvalidProxy, TrustedProxy};
use super::{InvalidPattern, MethodPattern};
use crate::google::rpc::RetryInfo;
use crate::rate::{Local, Rate, Taken};
use crate::{AsciiKey, Call, Interceptor, Metadata, Method, Next, Outcome, Status};

/// When a client that retries by itself is to do so (gRFC A6).
static RETRY_PUSHBACK: AsciiKey = AsciiKey::from_static("grpc-retry-pushback-ms");

/// The value by which a client is asked not to retry by itself: any that is negative.
const NO_RETRY: i32 = -1;

/// Unless it is set: 12 MiB.
const CLIENTS: usize = 250_000;

/// Lets each client call each method only so often, or send it only so many messages. What is too much ends with RESOURCE_EXHAUSTED
/// and says when the next call will pass: by a [`RetryInfo`], and to clients that retry by
/// themselves by `grpc-retry-pushback-ms`.
///
/// The client is the [`Principal`](super::auth::Principal), if there is one: register this behind
/// `Auth`. Else it is the address from which the call comes, of version 6 its /64; or the one in
/// `x-forwarded-for`, for calls that come from a [`trust_proxy`](Self::trust_proxy). A call counts
/// when it begins, whatever its shape and however it ends.
///
/// Messages count as the handler takes them, those of all calls of a client to a method together. One
/// too many is not delivered: the handler gets RESOURCE_EXHAUSTED in its place, and most often ends
/// the call with it. It asks clients not to retry by themselves (`grpc-retry-pushback-ms: -1`), since
/// what came before may have been done. Each instance counts messages for itself.
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
#[derive(Debug)]
pub struct RateLimit {
    rules: Vec<Rule>,
    proxies: Proxies,
    local: Arc<Local>,
    #[cfg(feature = "redis")]
    shared: Option<SharedLimits>,
}

#[derive(Debug)]
struct Rule {
    methods: MethodPattern,
    /// `None` is all that there is.
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
            local: Arc::new(Local::with_room_for(CLIENTS)),
            #[cfg(feature = "redis")]
            shared: None,
        }
    }

    /// Lets each client make so many `calls` to each of these methods in each `period`, beginning
    /// with its first. The first rule that has a method is the one that counts for it.
    ///
    /// # Errors
    /// This and the next two: if it is no [`MethodPattern`].
    pub fn limit(
        self,
        methods: &str,
        calls: u32,
        period: Duration,
    ) -> Result<Self, InvalidPattern> {
        self.rule(methods, Some(Counted::Calls), Some(Rate { calls, period }))
    }

    /// Lets each client send so many `messages` to each of these methods in each `period`. The first
    /// rule of messages that has a method counts for it, beside the first rule of calls.
    pub fn limit_messages(
        self,
        methods: &str,
        messages: u32,
        period: Duration,
    ) -> Result<Self, InvalidPattern> {
        self.rule(methods, Some(Counted::Messages), Some(Rate { calls: messages, period }))
    }

    /// Does not limit these methods, whatever rules come behind this one.
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

    /// Believes this proxy from whom it has a call. May be repeated; of a chain of proxies each has
    /// to be trusted.
    #[must_use]
    pub fn trust_proxy(mut self, proxy: TrustedProxy) -> Self {
        self.proxies.0.push(proxy);
        self
    }

    /// How many clients, times the methods that each of them calls, are remembered: 250,000 unless
    /// set, for which there are 12 MiB. Of more, some are forgotten, first of all those who have
    /// not called for longest, and their calls count anew.
    #[must_use]
    pub fn room_for(mut self, clients: usize) -> Self {
        self.local = Arc::new(Local::with_room_for(clients.max(1)));
        self
    }

    /// Holds the limits together with other instances.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn share(mut self, with: SharedLimits) -> Self {
        self.shared = Some(with);
        self
    }

    /// `None` if nothing is shared, or nobody there to ask.
    #[cfg(feature = "redis")]
    async fn take_shared(&self, method: &Method, client: Client<'_>, rate: Rate) -> Option<Taken> {
        let shared = self.shared.as_ref()?;
        // On the heap: calls that share nothing would have room for it as well.
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

    /// Counts the messages of a call as they are taken, if there is a limit for them.
    fn count_messages(&self, call: &mut Call) {
        let method = call.method();
        let Some(rate) = self.rate(method, Counted::Messages) else { return };
        let client = Client::of(call, &self.proxies);
        let place = (std::ptr::from_ref(method).addr(), Counted::Messages, client);
        let (local, client) = (self.local.clone(), self.local.known(place));
        call.admit_messages(move || {
            let taken = local.take_of(client, rate);
            taken.map_err(|wait| {
                let mut metadata = Metadata::new();
                metadata.insert(&RETRY_PUSHBACK, NO_RETRY);
                Status::resource_exhausted(too_much(rate, "messages", wait)).with_metadata(metadata)
            })
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
        let client = Client::of(&call, &self.proxies);
        let taken = match self.take_shared(method, client, rate).await {
            Some(taken) => taken,
            // There is one description of each method, and it stays where it is.
            None => self.local.take((std::ptr::from_ref(method).addr(), client), rate),
        };
        match taken {
            Ok(()) => next.run(call).await,
            Err(wait) => refusal(rate, "calls", wait).into(),
        }
    }
}

/// `what` there was too much of; another is welcome after `wait`.
pub(super) fn refusal(rate: Rate, what: &str, wait: Duration) -> Status {
    // Whole milliseconds, and never too few.
    let millis = wait.as_nanos().div_ceil(1_000_000);
    let mut metadata = Metadata::new();
    metadata.insert(&RETRY_PUSHBACK, i32::try_from(millis).unwrap_or(i32::MAX));
    let wait = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
    Status::resource_exhausted(too_much(rate, what, wait))
        .with_detail(&RetryInfo::after(wait))
        .with_metadata(metadata)
}

fn too_much(Rate { calls, period }: Rate, what: &str, wait: Duration) -> String {
    format!("more than {calls} {what} in {period:?}: try again in {wait:?}")
}

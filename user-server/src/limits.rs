//! Limits on calls, from the settings.

use std::time::Duration;

use crate::config::{Config, Layers, Rate};
use crate::start_error::StartError;
use crate::tls::trust;
use balafon::interceptors::rate_limit::{RateLimit, SharedLimits};
use balafon::interceptors::{ConcurrencyLimit, InvalidPattern};

/// Health checks are not limited: a busy server must not look like an unhealthy one.
const HEALTH: &str = "grpc.health.v1.Health/*";

/// How long a call waits for Redis: many round trips in a data center, and a short delay for a call.
const REDIS_TIMEOUT: Duration = Duration::from_millis(50);

/// The limit of concurrent calls.
pub(super) fn concurrency(config: &Config) -> Result<Option<ConcurrencyLimit>, StartError> {
    let limit =
        config.limits.max_calls.map(|calls| ConcurrencyLimit::new(calls as usize).exempt(HEALTH));
    limit.transpose().map_err(unusable)
}

/// The rate limits of each client. Load balancers check health often and from few addresses, so health is
/// exempt here too.
pub(super) async fn rates(
    config: &Config,
    layers: &Layers,
) -> Result<Option<RateLimit>, StartError> {
    if config.rate_limit.rules.is_empty() {
        return Ok(None);
    }
    let mut limit = RateLimit::new().unlimited(HEALTH).map_err(unusable)?;
    for (methods, rate) in &config.rate_limit.rules {
        let methods = methods.to_string();
        limit = match *rate {
            Some(Rate::Calls(calls, period)) => limit.limit(&methods, calls, period),
            Some(Rate::Messages(messages, period)) => {
                limit.limit_messages(&methods, messages, period)
            }
            None => limit.unlimited(&methods),
        }
        .map_err(unusable)?;
    }
    for proxy in &config.rate_limit.trusted_proxies {
        limit = limit.trust_proxy(*proxy);
    }
    Ok(Some(match shared(config, layers).await? {
        Some(shared) if shared.is_unsupported() => {
            let why = shared.trouble().unwrap_or_default();
            return Err(StartError::caused_by(layers.name_at_origin("rate-limit.redis"), why));
        }
        Some(shared) => limit.share(shared),
        None => limit,
    }))
}

/// The limits that are shared by Redis, if it is configured.
pub(super) async fn shared(
    config: &Config,
    layers: &Layers,
) -> Result<Option<SharedLimits>, StartError> {
    let Some(mut redis) = config.rate_limit.redis.clone() else { return Ok(None) };
    if let Some(tls) = trust("rate-limit.redis-ca", config.rate_limit.redis_ca.as_deref(), layers)?
    {
        redis = redis.trust(tls);
    }
    Ok(Some(SharedLimits::redis(redis, REDIS_TIMEOUT).await))
}

fn unusable(error: InvalidPattern) -> StartError {
    StartError::caused_by("limits", error)
}

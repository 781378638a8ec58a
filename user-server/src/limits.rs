//! Limits on calls, as they are configured.

use super::StartError;
use super::auth::HEALTH;
use super::config::{Config, Layers, Limited};
use super::tls::trust;
use balafon::interceptors::rate_limit::{RateLimit, SharedLimits};
use balafon::interceptors::{ConcurrencyLimit, InvalidPattern};

/// The limit of calls at a time. Health is served in any case: a server that is busy is not to be
/// taken for one that is ill.
pub(super) fn at_a_time(config: &Config) -> Result<Option<ConcurrencyLimit>, StartError> {
    let limit = config.max_calls.map(|calls| ConcurrencyLimit::new(calls as usize).exempt(HEALTH));
    limit.transpose().map_err(unusable)
}

/// The limits of each client. Health is served in any case here too: load balancers ask for it
/// often, and from few addresses.
pub(super) async fn of_clients(
    config: &Config,
    layers: &Layers,
) -> Result<Option<RateLimit>, StartError> {
    if config.rate_limit_rules.is_empty() {
        return Ok(None);
    }
    let room = config.rate_limit_clients as usize;
    let mut limit = RateLimit::new().room_for(room).unlimited(HEALTH).map_err(unusable)?;
    for (methods, rate) in &config.rate_limit_rules {
        let methods = methods.to_string();
        limit = match *rate {
            Some(Limited::Calls(calls, period)) => limit.limit(&methods, calls, period),
            Some(Limited::Messages(messages, period)) => {
                limit.limit_messages(&methods, messages, period)
            }
            None => limit.unlimited(&methods),
        }
        .map_err(unusable)?;
    }
    for proxy in &config.trusted_proxies {
        limit = limit.trust_proxy(*proxy);
    }
    Ok(Some(match shared(config, layers).await? {
        Some(shared) if shared.is_unsupported() => {
            let why = shared.trouble().unwrap_or_default();
            return Err(StartError(format!("{}: {why}", layers.place("rate-limit.redis"))));
        }
        Some(shared) => limit.share(shared),
        None => limit,
    }))
}

/// What shares them with other instances, if anything.
pub(super) async fn shared(
    config: &Config,
    layers: &Layers,
) -> Result<Option<SharedLimits>, StartError> {
    let Some(mut redis) = config.rate_limit_redis.clone() else { return Ok(None) };
    if let Some(tls) = trust("rate-limit.redis-ca", config.rate_limit_redis_ca.as_deref(), layers)?
    {
        redis = redis.trust(tls);
    }
    Ok(Some(SharedLimits::redis(redis, config.rate_limit_redis_timeout).await))
}

fn unusable(error: InvalidPattern) -> StartError {
    StartError(format!("limits: {error}"))
}

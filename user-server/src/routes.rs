//! The services of the program.

use std::sync::LazyLock;
use std::time::Duration;

use super::config::{Config, Discovery};
use crate::pb::{UserService, user_service};
use crate::service::Users;
use crate::store::UserStore;
use crate::store::memory::MemoryStore;
use balafon::services::health::Health;
use balafon::services::reflection;
use balafon::{CallOptions, Method, Router};

/// A router of the services that are configured, without interceptors.
pub(super) fn compose(config: &Config, store: impl UserStore, health: &Health) -> Router {
    let router = Router::new().add(users(config, store).into_service());
    let streams = streams(config);
    let router = [user_service::CREATE_USERS.path, user_service::UPDATE_USERS.path]
        .iter()
        .fold(router, |router, path| router.configure(&path[1..], streams));
    if config.asks_who_calls() && config.auth_discovery == Discovery::Off {
        return router.add(health.service().without("List"));
    }
    let router = router.add(health.service());
    if config.reflection { reflection::reflect(router) } else { router }
}

pub(super) fn users<S: UserStore>(config: &Config, store: S) -> Users<S> {
    Users::new(store)
        .max_batch(config.max_batch as usize)
        .chunks(config.chunk_size as usize, config.chunk_delay)
}

/// What holds for streams of users, besides what holds for all calls.
fn streams(config: &Config) -> CallOptions {
    let age = [config.stream_age, config.call_timeout].into_iter().flatten().min();
    CallOptions::new()
        .idle_timeout(config.stream_idle.unwrap_or(Duration::MAX))
        .max_duration(age.unwrap_or(Duration::MAX))
}

/// All methods that there may be, in the order of their names, also those of services that are
/// switched off: a setting may speak of them all the same.
pub(super) fn methods() -> &'static [&'static Method] {
    static METHODS: LazyLock<Vec<&'static Method>> = LazyLock::new(|| {
        let users = Users::new(MemoryStore::new()).into_service();
        let router = Router::new().add(users).add(Health::new().service());
        let mut methods: Vec<_> = reflection::reflect(router).methods().collect();
        methods.sort_unstable_by_key(|method| method.path);
        methods
    });
    &METHODS
}

//! The services of the program.

use std::sync::LazyLock;
use std::time::Duration;

use crate::config::{Config, Discovery};
use crate::pb::{UserService, user_service};
use crate::service::Users;
use crate::store::UserStore;
use crate::store::memory::MemoryStore;
use balafon::services::health::Health;
use balafon::services::reflection;
use balafon::{CallOptions, Method, Router};

/// A router with the configured services, without interceptors.
pub(super) fn compose(config: &Config, store: impl UserStore, health: &Health) -> Router {
    let router = Router::new().add(users(config, store).into_service());
    let streams = stream_options(config);
    let router = router
        .configure(&user_service::CREATE_USERS.path[1..], streams)
        .configure(&user_service::UPDATE_USERS.path[1..], streams);
    if config.auth.is_on() && config.auth.discovery == Discovery::Off {
        return router.add(health.service().without("List"));
    }
    let router = router.add(health.service());
    if config.server.reflection { reflection::reflect(router) } else { router }
}

pub(super) fn users<S: UserStore>(config: &Config, store: S) -> Users<S> {
    Users::new(store).max_batch(config.limits.max_batch as usize)
}

/// Options for the streams of users, in addition to those of all calls.
fn stream_options(config: &Config) -> CallOptions {
    let age = [config.limits.stream_age, config.limits.call_timeout].into_iter().flatten().min();
    CallOptions::new()
        .idle_timeout(config.limits.stream_idle.unwrap_or(Duration::MAX))
        .max_duration(age.unwrap_or(Duration::MAX))
}

/// All methods of the program, sorted by path. Methods of disabled services are included: a setting may name
/// them.
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

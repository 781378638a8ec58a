//! A running server: the store, the services, the interceptors, and their order.

use std::time::SystemTime;

use prometheus::Registry;
use prometheus::core::Collector;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::admin::Admin;
use crate::config::{Config, Layers, Store};
use crate::expiry::Expiry;
use crate::log::{AT_EXIT, Output};
use crate::open_store::{check_existence, postgres_options, runtime};
use crate::pb::user_service;
use crate::process::ProcessMetrics;
use crate::reload::{self, Reloads};
use crate::start_error::StartError;
use crate::store::UserStore;
use crate::store::memory::MemoryStore;
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::{auth, limits, routes, server, tls, traces};
use balafon::interceptors::auth::Auth;
use balafon::interceptors::{AccessLog, Metrics, ServerMetrics, TrustProxies};
use balafon::services::health::{Health, ServingStatus};
use balafon::{Router, Server, SharedTls, exit_at_next_signal, shutdown_signal};

/// The health service name of the process itself, for liveness probes by gRPC. The other names are
/// NOT_SERVING while the store is unavailable, which a restart does not fix.
const LIVENESS: &str = "liveness";

/// Serves until a signal.
pub(crate) fn run(config: &Config, layers: &Layers, log: &Output) -> Result<(), StartError> {
    for warning in layers.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        // First: without a listener, SIGHUP ends the process.
        let reloads = reload::listen();
        check_existence(config, layers).await?;
        let cannot_open = |error| StartError::caused_by(layers.name_at_origin("store"), error);
        match &config.store.location {
            Store::Memory => serve(config, layers, log, reloads, MemoryStore::new()).await,
            Store::Sqlite(path) => {
                let store = SqliteStore::open(path, config.store.durability);
                serve(config, layers, log, reloads, store.map_err(cannot_open)?).await
            }
            Store::Postgres(url) => {
                let options = postgres_options(config, layers, url)?;
                let store = PostgresStore::connect(&options).await;
                serve(config, layers, log, reloads, store.map_err(cannot_open)?).await
            }
        }
    });
    // Dropping the runtime would wait for blocking tasks, such as a name lookup.
    runtime.shutdown_background();
    served
}

async fn serve(
    config: &Config,
    layers: &Layers,
    log: &Output,
    reloads: Reloads,
    store: impl UserStore,
) -> Result<(), StartError> {
    let server = with_tls(server::build(config), config, layers, &reloads)?;
    let expiry = Expiry::new(config, layers);
    let mut collectors = store.collectors();
    collectors.push(expiry.collector());
    tokio::spawn(expiry.watch(reloads.clone()));
    let health = Health::new();
    health.set_alive(LIVENESS);
    health.set(user_service::NAME, ServingStatus::Serving);
    tokio::spawn(follow_store(store.availability(), health.clone()));
    let router = routes::compose(config, store, &health);
    let metrics = config.admin.listen.is_some().then(|| Metrics::new(&router));
    let (traces, export) = traces::start(config, layers)?;
    let router = intercept(router, config, layers, reloads, traces, metrics.clone()).await?;
    // Signals are handled before the server accepts connections: a client may then send one.
    let shutdown = export.watch(shutdown(config, &health, log));
    let listeners =
        server::listen(config).await.map_err(|error| StartError::new(error.to_string()))?;
    if let Some(address) = config.admin.listen.as_deref()
        && let Some(metrics) = metrics
    {
        let registry = registry(metrics, collectors, &server, log)
            .map_err(|error| StartError::caused_by("cannot register the metrics", error))?;
        let services = &["", user_service::NAME];
        let admin = Admin { registry, health, services }.start(address).await?;
        tracing::info!(%admin, "the admin endpoint is ready");
    }
    let tls = config.tls.cert.is_some();
    let store = &config.store.location;
    let workers = server::workers(config);
    for address in listeners.addresses() {
        tracing::info!(address, tls, %store, workers, "listening");
    }

    let served = server.serve(listeners, router, shutdown).await;
    served.map_err(|error| StartError::caused_by("cannot start the workers", error))?;
    export.finish().await;
    tracing::info!("drained");
    Ok(())
}

/// Adds TLS, if it is configured, and reloads its files when they change.
fn with_tls(
    server: Server,
    config: &Config,
    layers: &Layers,
    reloads: &Reloads,
) -> Result<Server, StartError> {
    let Some(files) = tls::Files::of(config, layers) else { return Ok(server) };
    let contents = files.read()?;
    let tls = files.parse(&contents)?;
    // Not an error: the clock may be wrong, and clients may not check the time.
    if let Err(error) = files.validity(&tls, SystemTime::now()) {
        tracing::warn!("{error}; the certificate is used anyway");
    }
    let tls = SharedTls::new(tls);
    let server = server.tls(tls.clone());
    tokio::spawn(files.watch(contents, tls, reloads.clone()));
    Ok(server)
}

/// Adds the interceptors, the outermost first. Every log line has its trace. Refused calls are counted
/// and logged too.
async fn intercept(
    mut router: Router,
    config: &Config,
    layers: &Layers,
    reloads: Reloads,
    traces: balafon::interceptors::traces::Traces,
    metrics: Option<Metrics>,
) -> Result<Router, StartError> {
    if !config.rate_limit.trusted_proxies.is_empty() {
        let mut proxies = TrustProxies::new();
        for proxy in &config.rate_limit.trusted_proxies {
            proxies = proxies.trust(*proxy);
        }
        router = router.intercept(proxies);
    }
    router = router.intercept(traces);
    if let Some(metrics) = metrics {
        router = router.intercept(metrics);
    }
    router = router.intercept(AccessLog);
    if let Some(limit) = limits::concurrency(config)? {
        router = router.intercept(limit);
    }
    let (auth, access) = auth::build(config, layers)?.unzip();
    if let Some(auth) = auth {
        router = router.intercept(auth.clone());
        tokio::spawn(reload_auth(auth, reloads));
    }
    // From here on the principal is known.
    if let Some(limit) = limits::rates(config, layers).await? {
        router = router.intercept(limit);
    }
    if let Some(access) = access {
        router = router.intercept(access);
    }
    Ok(router)
}

/// Reads the files of authentication at every reload request. The interceptor also watches them itself.
async fn reload_auth(auth: Auth, mut reloads: Reloads) {
    loop {
        reloads.requested().await;
        let auth = auth.clone();
        spawn_blocking(move || auth.reload());
    }
}

/// Sets health to the availability of the store, until shutdown.
async fn follow_store(mut available: watch::Receiver<bool>, health: Health) {
    loop {
        let status = match *available.borrow_and_update() {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        health.set_all(status);
        if available.changed().await.is_err() {
            return;
        }
    }
}

/// All metrics of the program, for Prometheus.
fn registry(
    metrics: Metrics,
    others: Vec<Box<dyn Collector>>,
    server: &Server,
    log: &Output,
) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    for collector in others {
        registry.register(collector)?;
    }
    registry.register(Box::new(metrics))?;
    registry.register(Box::new(ServerMetrics::new(server.stats())))?;
    registry.register(Box::new(ProcessMetrics::new()?))?;
    registry.register(Box::new(log.dropped().clone()))?;
    Ok(registry)
}

/// Completes when the drain begins. A second signal ends the process immediately.
fn shutdown(config: &Config, health: &Health, log: &Output) -> impl Future<Output = ()> + use<> {
    let log = log.clone();
    let lame_duck = config.shutdown.lame_duck;
    let drain_timeout = config.shutdown.drain_timeout;
    let first = shutdown_signal();
    let signal = async move {
        first.await;
        exit_at_next_signal(move || {
            log.flush(AT_EXIT);
        });
        tracing::info!(
            ?lame_duck,
            ?drain_timeout,
            "shutting down; a second signal ends the process immediately"
        );
    };
    health.lame_duck(signal, lame_duck)
}

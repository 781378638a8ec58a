//! The user service: from the command line to a running server.
//!
//! ```text
//! main -> cli, config -> store, service, interceptors -> balafon::Server
//!
//! service (gRPC) --> store (memory, SQLite, PostgreSQL) --> domain (knows neither gRPC nor SQL)
//! ```

mod access;
mod admin;
mod auth;
mod check;
mod cli;
mod config;
mod copies;
pub mod domain;
mod expiry;
mod limits;
pub mod log;
mod process;
mod reload;
mod routes;
pub mod service;
pub mod store;
mod telemetry;
mod tls;
mod token;
mod traces;

/// What is generated of `proto/user_service.proto`.
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/ru.tinkoff.kora.example.rs"));
}

use std::fmt;
use std::io::{self, Write, stderr, stdout};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, SystemTime};

use prometheus::Registry;
use prometheus::core::Collector;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing_subscriber::fmt::MakeWriter;

use self::admin::Admin;
use self::check::Finding;
use self::cli::{Cli, Task};
use self::config::{
    Config, Layers, PROXY, Problems, RequestCompression, ResponseCompression, Store,
};
use self::expiry::Expiry;
use self::log::{AT_EXIT, Output};
use self::process::ProcessMetrics;
use crate::pb::user_service;
use crate::store::memory::MemoryStore;
use crate::store::postgres::{Options, PostgresStore};
use crate::store::sqlite::SqliteStore;
use crate::store::{Found, UserStore};
use balafon::exit_at_next_signal;
use balafon::interceptors::{AccessLog, Metrics, ServerMetrics, TrustProxies};
use balafon::services::health::{Health, ServingStatus};
use balafon::{CallOptions, Compression, Listeners, Server, SharedTls, shutdown_signal};

/// The exit code for what the user can mend: a setting, an address, a port.
const USAGE: u8 = 2;

/// What health calls the process itself, for liveness probes by gRPC: the other names are NOT_SERVING while the
/// store is away, which another start does not mend.
const LIVENESS: &str = "liveness";

/// Runs `user-server` with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = match Cli::from_args() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    if let Task::Sample = cli.task {
        return print(config::sample());
    }
    match (&cli.task, cli.config()) {
        (Task::Check, Err(problems)) => {
            report(problems.lines().map(|it| Finding::Error(it.into())))
        }
        (Task::Check, Ok((config, layers))) => report(check::run(&config, &layers)),
        (_, Err(problems)) => complain(&problems),
        (Task::Migrate, Ok((config, layers))) => report([check::migrate(&config, &layers)]),
        (Task::Show | Task::Sample, Ok((_, layers))) => print(config::effective(&layers)),
        (Task::Token(wanted), Ok((config, layers))) => {
            match token::sign(wanted, &config, &layers) {
                Ok(token) => print(format_args!("{token}\n")),
                Err(error) => complain(&Problems::from(error)),
            }
        }
        (Task::Copy(copy), Ok((config, layers))) => match copies::run(copy, &config, &layers) {
            Ok(line) => print(format_args!("{line}\n")),
            Err(error) => complain(&Problems::from(error)),
        },
        (Task::Serve, Ok((config, layers))) => serve_with_log(&config, &layers),
    }
}

/// Writes to the standard output; that nobody reads it is no fault of ours.
fn print(text: impl fmt::Display) -> ExitCode {
    let _ = write!(stdout(), "{text}");
    ExitCode::SUCCESS
}

fn report(findings: impl IntoIterator<Item = Finding>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for finding in findings {
        if let Finding::Error(_) = finding {
            code = ExitCode::from(USAGE);
        }
        let _ = writeln!(stdout(), "{finding}");
    }
    code
}

/// Writes a line for each problem to the standard error output, if there is one.
fn complain(problems: &Problems) -> ExitCode {
    complain_to(stderr(), problems)
}

fn complain_to(mut writer: impl Write, problems: &Problems) -> ExitCode {
    for line in problems.lines() {
        let _ = writer.write_all(format!("user-server: {line}\n").as_bytes());
    }
    ExitCode::from(USAGE)
}

/// Why the server did not start, in one line.
#[derive(Debug)]
struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StartError> for Problems {
    fn from(error: StartError) -> Self {
        Self::one(error.0)
    }
}

/// Serves until a signal. The log goes out last, whatever its reader does.
fn serve_with_log(config: &Config, layers: &Layers) -> ExitCode {
    let log = match telemetry::init(config) {
        Ok(log) => log,
        Err(error) => {
            return complain(&StartError(format!("cannot start the log: {error}")).into());
        }
    };
    let code = match run(config, layers, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain_to(log.make_writer(), &error.into()),
    };
    log.flush(AT_EXIT);
    code
}

fn run(config: &Config, layers: &Layers, log: &Output) -> Result<(), StartError> {
    for warning in layers.warnings() {
        tracing::warn!("{warning}");
    }
    // Accepts connections and waits for signals; calls run on the workers' own runtimes.
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        // First: it would end the process.
        let asks = reload::listen();
        must_exist(config, layers).await?;
        match &config.store {
            Store::Memory => serve(config, layers, log, asks, MemoryStore::new()).await,
            Store::Sqlite(path) => {
                let store = SqliteStore::open(path, config.store_durability)
                    .map_err(|error| StartError(format!("{}: {error}", layers.place("store"))))?;
                serve(config, layers, log, asks, store).await
            }
            Store::Postgres(url) => {
                let store = PostgresStore::connect(&postgres(config, layers, url)?)
                    .await
                    .map_err(|error| StartError(format!("{}: {error}", layers.place("store"))))?;
                serve(config, layers, log, asks, store).await
            }
        }
    });
    // Dropped, it would wait for what blocks, such as a name that is looked up.
    runtime.shutdown_background();
    served
}

/// With `store-must-exist`: whether there is a store.
async fn must_exist(config: &Config, layers: &Layers) -> Result<(), StartError> {
    if !config.store_must_exist {
        return Ok(());
    }
    let exists = match &config.store {
        Store::Memory => false,
        Store::Sqlite(path) => std::fs::metadata(path).is_ok_and(|file| file.len() > 0),
        Store::Postgres(url) => {
            let found = PostgresStore::inspect(&postgres(config, layers, url)?).await;
            // What else may be wrong is told when it is opened.
            !matches!(found, Ok(Found::Nothing))
        }
    };
    if exists {
        return Ok(());
    }
    let (place, required) = (layers.place("store"), layers.place("store-must-exist"));
    let store = &config.store;
    Err(StartError(format!("{place}: there is no store {store} yet, and {required} asks for one")))
}

fn postgres(config: &Config, layers: &Layers, url: &str) -> Result<Options, StartError> {
    Ok(Options {
        url: url.to_owned(),
        tls: tls::trust("store-ca", config.store_ca.as_deref(), layers)?,
        connections: config.store_connections as usize,
    })
}

fn runtime() -> Result<Runtime, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| StartError(format!("cannot start the runtime: {error}")))
}

async fn serve(
    config: &Config,
    layers: &Layers,
    log: &Output,
    mut asks: watch::Receiver<()>,
    store: impl UserStore,
) -> Result<(), StartError> {
    let mut server = server(config);
    if let Some(files) = tls::Files::of(config, layers) {
        let contents = files.read()?;
        let tls = files.parse(&contents)?;
        // It may be the clock that is wrong, and clients may not care.
        if let Err(error) = files.validity(&tls, SystemTime::now()) {
            tracing::warn!("{error}; serving all the same");
        }
        let tls = SharedTls::new(tls);
        server = server.tls(tls.clone());
        tokio::spawn(files.watch(contents, tls, asks.clone()));
    }
    let expiry = Expiry::new(config, layers);
    let mut collectors = store.collectors();
    collectors.push(expiry.collector());
    tokio::spawn(expiry.watch(asks.clone()));
    let health = Health::new();
    health.set_alive(LIVENESS);
    health.set(user_service::NAME, ServingStatus::Serving);
    tokio::spawn(follow(store.availability(), health.clone()));
    let mut router = routes::compose(config, store, &health);
    let metrics = config.admin_listen.is_some().then(|| Metrics::new(&router));
    let (traces, export) = traces::start(config, layers)?;
    // From the outside in: all that is logged has its trace, and what is refused is counted and
    // logged as well.
    if !config.trusted_proxies.is_empty() {
        let proxies = config.trusted_proxies.iter().copied();
        router = router.intercept(proxies.fold(TrustProxies::new(), TrustProxies::trust));
    }
    router = router.intercept(traces);
    if let Some(metrics) = metrics.clone() {
        router = router.intercept(metrics);
    }
    router = router.intercept(AccessLog);
    if let Some(limit) = limits::at_a_time(config)? {
        router = router.intercept(limit);
    }
    let (auth, access) = auth::build(config, layers)?.unzip();
    if let Some(auth) = auth {
        router = router.intercept(auth.clone());
        tokio::spawn(async move {
            loop {
                reload::asked(&mut asks).await;
                let auth = auth.clone();
                spawn_blocking(move || auth.reload());
            }
        });
    }
    // Who calls is known here.
    if let Some(limit) = limits::of_clients(config, layers).await? {
        router = router.intercept(limit);
    }
    if let Some(access) = access {
        router = router.intercept(access);
    }
    // Before anybody can connect, who may send a signal then.
    let shutdown = export.watch(shutdown(config, &health, log));
    let listeners = listen(config).await.map_err(|error| StartError(error.to_string()))?;
    if let Some((address, metrics)) = config.admin_listen.as_deref().zip(metrics) {
        let registry = registry(metrics, collectors, &server, log)
            .map_err(|error| StartError(error.to_string()))?;
        let services = &["", user_service::NAME];
        let admin = Admin { registry, health, services }.start(address).await?;
        tracing::info!(%admin, "answering operators");
    }
    let (tls, store, workers) = (config.tls_cert.is_some(), &config.store, workers(config));
    for address in listeners.addresses() {
        tracing::info!(address, tls, %store, workers, "listening");
    }

    server
        .serve(listeners, router, shutdown)
        .await
        .map_err(|error| StartError(format!("cannot start the workers: {error}")))?;
    export.finish().await;
    tracing::info!("drained");
    Ok(())
}

/// Health is that of the store, until it is shut down.
async fn follow(mut available: watch::Receiver<bool>, health: Health) {
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

/// A server with all settings but TLS.
fn server(config: &Config) -> Server {
    let mut server = Server::new()
        .workers(workers(config))
        .max_connections(config.max_connections as usize)
        .handshakes_per_minute(config.handshakes_per_minute)
        .max_concurrent_streams(config.max_streams)
        .max_header_list_size(u32::try_from(config.max_header_list).unwrap_or(u32::MAX))
        .connection_buffer_limit(config.connection_buffer)
        .server_buffer_limit(config.server_buffer)
        .calls(calls(config))
        .handshake_timeout(config.handshake_timeout)
        .keepalive(config.keepalive_time.unwrap_or(Duration::MAX), config.keepalive_timeout)
        .permit_pings(config.min_ping_interval, config.pings_without_calls)
        .drain_timeout(config.drain_timeout);
    if let Some(idle) = config.max_idle {
        server = server.max_connection_idle(idle);
    }
    if let Some(age) = config.max_age {
        server = server.max_connection_age(age, config.max_age_grace);
    }
    server
}

fn calls(config: &Config) -> CallOptions {
    let mut calls = CallOptions::new()
        .max_receive_message_size(config.max_receive_message)
        .request_timeout(config.request_timeout.unwrap_or(Duration::MAX));
    if let Some(bytes) = config.max_send_message {
        calls = calls.max_send_message_size(bytes);
    }
    if let Some(time) = config.call_timeout {
        calls = calls.max_duration(time);
    }
    if !config.request_compression.contains(&RequestCompression::All) {
        let accepted = config.request_compression.iter().filter_map(|setting| match setting {
            RequestCompression::Accept(encoding) => Some(*encoding),
            RequestCompression::All | RequestCompression::Off => None,
        });
        calls = calls.accept_encodings(&accepted.collect::<Vec<_>>());
    }
    match config.response_compression[..] {
        [ResponseCompression::Mirror, ..] => calls,
        [ResponseCompression::Off, ..] => calls.compression(Compression::off()),
        _ => {
            let preferred =
                config.response_compression.iter().filter_map(|setting| match setting {
                    ResponseCompression::Prefer(encoding) => Some(*encoding),
                    ResponseCompression::Mirror | ResponseCompression::Off => None,
                });
            // Once per process: every call refers to them.
            calls.compression(Compression::prefer(Vec::leak(preferred.collect())))
        }
    }
}

fn workers(config: &Config) -> usize {
    match config.workers {
        Some(count) => count as usize,
        None => available_parallelism().map_or(1, NonZeroUsize::get),
    }
}

async fn listen(config: &Config) -> io::Result<Listeners> {
    let mut listeners = Listeners::new();
    for listen in &config.listen {
        let address = listen.strip_prefix(PROXY).unwrap_or(listen);
        match address.strip_prefix("unix:") {
            #[cfg(unix)]
            Some(path) => listeners.bind_unix(path, config.unix_mode).await?,
            _ => listeners.bind(address).await?,
        }
        if listen.starts_with(PROXY) {
            let sources = config.proxy_sources.clone();
            listeners.proxy_protocol(move |peer| sources.iter().any(|source| source.is(peer)));
        }
    }
    Ok(listeners)
}

/// All that Prometheus is told.
fn registry(
    metrics: Metrics,
    others: Vec<Box<dyn Collector>>,
    server: &Server,
    log: &Output,
) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    others.into_iter().try_for_each(|collector| registry.register(collector))?;
    registry.register(Box::new(metrics))?;
    registry.register(Box::new(ServerMetrics::new(server.stats())))?;
    registry.register(Box::new(ProcessMetrics::new()?))?;
    registry.register(Box::new(log.dropped().clone()))?;
    Ok(registry)
}

/// Completes when it is time to drain. A second signal ends the process at once.
fn shutdown(config: &Config, health: &Health, log: &Output) -> impl Future<Output = ()> + use<> {
    let log = log.clone();
    let (lame_duck, drain_timeout) = (config.lame_duck, config.drain_timeout);
    let first = shutdown_signal();
    let signal = async move {
        first.await;
        exit_at_next_signal(move || {
            log.flush(AT_EXIT);
        });
        tracing::info!(?lame_duck, ?drain_timeout, "shutting down; a second signal stops at once");
    };
    health.lame_duck(signal, lame_duck)
}

#[cfg(test)]
mod tests {
    use super::routes::users;
    use super::*;
    use crate::service::Users;

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let Ok((config, _)) = config::load(|_| Vec::new(), std::iter::empty(), None) else {
            panic!("the defaults contradict each other");
        };
        let calls = CallOptions::new().max_receive_message_size(4 << 20);
        let calls = calls.request_timeout(Duration::from_secs(120));
        let library = Server::new().workers(workers(&config)).calls(calls);
        let library = library.max_connection_idle(Duration::from_secs(30 * 60));
        // Its messages are short.
        let library = library.connection_buffer_limit(16 << 20);
        assert_eq!(format!("{:?}", server(&config)), format!("{library:?}"));
        let of_library = Users::new(MemoryStore::new());
        assert_eq!(format!("{:?}", users(&config, MemoryStore::new())), format!("{of_library:?}"));
    }
}

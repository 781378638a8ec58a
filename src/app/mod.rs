//! The composition root: from the command line to a running user service.

mod cli;
mod telemetry;
mod tls;

use std::fmt;
use std::io::{Write, stderr};
use std::process::ExitCode;

use tokio::net::TcpListener;

use self::cli::{Cli, Store};
use crate::grpc::server::exit_at_next_signal;
use crate::interceptors::AccessLog;
use crate::services::health::{Health, ServingStatus};
use crate::services::reflection;
use crate::users::Users;
use crate::users::pb::{UserService, user_service};
use crate::users::store::UserStore;
use crate::users::store::memory::MemoryStore;
use crate::{Router, Server, shutdown_signal};

/// The exit code for what the user can mend: a flag, an address, a port.
const USAGE: u8 = 2;

/// Runs `user-server` with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = match Cli::from_args() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(USAGE)
        }
    }
}

/// Writes one line to the standard error output, if there is one.
fn complain(line: &str) {
    let _ = writeln!(stderr(), "user-server: {line}");
}

/// Why the server did not start, in one line.
struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn run(cli: &Cli) -> Result<(), StartError> {
    telemetry::init(cli)?;
    // Accepts connections and waits for signals; calls run on the workers' own runtimes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(async {
        match cli.store {
            Store::Memory => serve(cli, MemoryStore::new()).await,
        }
    })
}

async fn serve(cli: &Cli, store: impl UserStore) -> Result<(), StartError> {
    let mut server = Server::new()
        .workers(cli.workers())
        .max_connections(cli.max_connections())
        .connection_buffer_limit(cli.connection_buffer_limit)
        .server_buffer_limit(cli.server_buffer_limit)
        .drain_timeout(cli.drain_timeout());
    if let Some(tls) = tls::from_files(cli)? {
        server = server.tls(tls);
    }
    let health = Health::new();
    health.set(user_service::NAME, ServingStatus::Serving);
    let mut router = Router::new()
        .intercept(AccessLog)
        .add(Users::new(store).max_batch(cli.max_batch()).into_service())
        .add(health.service());
    if !cli.no_reflection {
        router = reflection::reflect(router);
    }
    let cannot_listen = |error| StartError(format!("cannot listen on {}: {error}", cli.listen));
    let listener = TcpListener::bind(&cli.listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let shutdown = shutdown(cli, &health);
    tracing::info!(%address, tls = cli.tls_cert.is_some(), store = %cli.store, workers = cli.workers(), "listening");

    server
        .serve(listener, router, shutdown)
        .await
        .map_err(|error| StartError(format!("cannot start the workers: {error}")))?;
    tracing::info!("drained");
    Ok(())
}

/// Completes when it is time to drain. A second signal ends the process at once.
fn shutdown(cli: &Cli, health: &Health) -> impl Future<Output = ()> + use<> {
    let (lame_duck, drain_timeout) = (cli.lame_duck(), cli.drain_timeout());
    let first = shutdown_signal();
    let signal = async move {
        first.await;
        exit_at_next_signal();
        tracing::info!(?lame_duck, ?drain_timeout, "shutting down; a second signal stops at once");
    };
    health.lame_duck(signal, lame_duck)
}

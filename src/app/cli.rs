use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{Parser, ValueEnum, value_parser};

use crate::grpc::server::{CONNECTION_BUFFER_LIMIT, MAX_CONNECTIONS, SERVER_BUFFER_LIMIT};
use crate::users::DEFAULT_MAX_BATCH;

/// A gRPC user service: create, read, stream and update users.
///
/// Try it:
///
///   user-server &
///   grpcurl -plaintext -d '{"name": "Alice", "email": "alice@example.com"}' \
///     localhost:9090 ru.tinkoff.kora.example.UserService/CreateUser
///   grpcurl -plaintext localhost:9090 ru.tinkoff.kora.example.UserService/GetAllUsers
///
/// SIGINT or SIGTERM makes health NOT_SERVING and, after the lame duck's time, drains: open calls
/// may end, new connections are refused; what is left after the drain timeout is ended with
/// UNAVAILABLE; the exit code is 0. A second signal stops at once, with 130. What cannot start
/// exits with 2 and says why.
#[derive(Debug, Parser)]
#[command(name = "user-server", version, verbatim_doc_comment, max_term_width = 100)]
pub(super) struct Cli {
    /// Where to listen: HOST:PORT. Port 0 lets the system choose one, which is logged
    #[arg(long, env = "USER_SERVER_LISTEN", value_name = "HOST:PORT")]
    #[arg(default_value = "127.0.0.1:9090", value_parser = listen_address)]
    pub(super) listen: String,

    /// Where users are kept. `memory:` keeps them until the server stops
    #[arg(long, env = "USER_SERVER_STORE", value_name = "STORE", default_value = "memory:")]
    pub(super) store: Store,

    /// Threads that serve calls; connections are spread over them [default: one per core]
    #[arg(long, env = "USER_SERVER_WORKERS", value_name = "N")]
    #[arg(value_parser = value_parser!(u16).range(1..=1024), allow_negative_numbers = true)]
    workers: Option<u16>,

    /// Messages that one CreateUsers stream may have
    #[arg(long, env = "USER_SERVER_MAX_BATCH", value_name = "N")]
    #[arg(default_value_t = DEFAULT_MAX_BATCH as u32, allow_negative_numbers = true)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    max_batch: u32,

    /// Connections that may be open at a time; more are closed at once. Each takes a file
    /// descriptor: see `ulimit -n`
    #[arg(long, env = "USER_SERVER_MAX_CONNECTIONS", value_name = "N")]
    #[arg(default_value_t = MAX_CONNECTIONS as u32, allow_negative_numbers = true)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    max_connections: u32,

    /// Bytes that the calls of one connection may hold: requests that have not arrived in full, and
    /// responses that are not read. A call that would exceed it ends with RESOURCE_EXHAUSTED
    #[arg(long, env = "USER_SERVER_CONNECTION_BUFFER_LIMIT", value_name = "BYTES")]
    #[arg(default_value_t = CONNECTION_BUFFER_LIMIT, allow_negative_numbers = true)]
    pub(super) connection_buffer_limit: usize,

    /// The same for the calls of all connections together
    #[arg(long, env = "USER_SERVER_SERVER_BUFFER_LIMIT", value_name = "BYTES")]
    #[arg(default_value_t = SERVER_BUFFER_LIMIT, allow_negative_numbers = true)]
    pub(super) server_buffer_limit: usize,

    /// Seconds between the signal that shuts down and the drain: health is NOT_SERVING, for load
    /// balancers to see, and all else is served
    #[arg(long, env = "USER_SERVER_LAME_DUCK", value_name = "SECONDS", default_value_t = 0)]
    #[arg(allow_negative_numbers = true)]
    lame_duck: u32,

    /// Seconds that calls have to end by themselves once a shutdown has begun
    #[arg(long, env = "USER_SERVER_DRAIN_TIMEOUT", value_name = "SECONDS", default_value_t = 30)]
    #[arg(allow_negative_numbers = true)]
    drain_timeout: u32,

    /// Serve over TLS with this certificate, a PEM file that may go on with those that signed it
    #[arg(long, env = "USER_SERVER_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,

    /// The private key of that certificate, a PEM file
    #[arg(long, env = "USER_SERVER_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,

    /// Serve only clients with a certificate that one of the authorities in this PEM file has signed
    #[arg(long, env = "USER_SERVER_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_client_ca: Option<PathBuf>,

    /// Do not serve reflection, by which clients such as grpcurl learn the methods
    #[arg(long, env = "USER_SERVER_NO_REFLECTION", value_parser = BoolishValueParser::new())]
    pub(super) no_reflection: bool,

    /// How log lines look; they go to the standard error output
    #[arg(long, env = "USER_SERVER_LOG_FORMAT", value_name = "FORMAT", default_value = "pretty")]
    pub(super) log_format: LogFormat,

    /// What is logged: off, error, warn, info, debug or trace, also by target, such as
    /// `info,balafon::access=warn` for everything but the line of each call
    #[arg(long, env = "USER_SERVER_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Where users are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    Memory,
}

impl Cli {
    /// The arguments of the process and its environment, or the code with which it ends now.
    pub(super) fn from_args() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            if matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
                // What is wrong and what would be right, without the paragraphs around it.
                let text = error.to_string();
                let line: Vec<_> =
                    text.lines().map(str::trim).take_while(|l| !l.is_empty()).collect();
                super::complain(line.join(" ").trim_start_matches("error: "));
            } else {
                let _ = error.print();
            }
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(super::USAGE))
        })
    }

    pub(super) fn workers(&self) -> usize {
        match self.workers {
            Some(count) => count.into(),
            None => available_parallelism().map_or(1, NonZeroUsize::get),
        }
    }

    pub(super) fn max_batch(&self) -> usize {
        self.max_batch as usize
    }

    pub(super) fn max_connections(&self) -> usize {
        self.max_connections as usize
    }

    pub(super) fn lame_duck(&self) -> Duration {
        Duration::from_secs(self.lame_duck.into())
    }

    pub(super) fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout.into())
    }
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory:" => Ok(Self::Memory),
            _ => Err("unknown store: wanted 'memory:', with the colon".to_owned()),
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
        }
    }
}

/// Checks the form only: names are resolved when the server binds.
fn listen_address(text: &str) -> Result<String, String> {
    let wanted = "wanted HOST:PORT, such as 127.0.0.1:9090, [::1]:9090 or localhost:9090";
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err(wanted.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let cli = Cli::parse_from(["user-server"]);
        assert_eq!(cli.listen, "127.0.0.1:9090");
        assert_eq!(cli.store, Store::Memory);
        assert_eq!(cli.max_batch(), 10_000);
        assert_eq!(cli.max_connections(), 10_000);
        assert!(!cli.no_reflection && cli.workers() > 0);
    }

    #[test]
    fn an_address_without_a_port_is_refused_with_what_is_wanted() {
        for text in ["9090", ":9090", "localhost", "localhost:http", "localhost:70000", ""] {
            let error = listen_address(text).unwrap_err();
            assert!(error.contains("HOST:PORT"), "{text}");
        }
        assert!(listen_address("[::1]:0").is_ok());
    }
}

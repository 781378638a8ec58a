//! New connections: the choice of a host, and the settings of the session.
//!
//! ```text
//!   each address, the last successful first ── TCP, TLS, login ──> inspect the session
//!                     ^                              |                  |
//!                     |   timeout or error           |                  | writable: use it
//!                     `──────────────────────────────┴──────────────────' read-only: use it if there is no other
//! ```
//!
//! The settings of a session are part of the login (`options`), because nothing overrides them there. A pooler
//! such as PgBouncer refuses or ignores them. Each transaction then sets them
//! ([`Settings::OfTransaction`]).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage};
use uuid::Uuid;

use super::connection::{Connection, Settings};
use super::tls::Tls;
use super::url::Target;
use super::{StoreError, error};

/// The settings of a session. The timeouts are in milliseconds, for statements that a cancellation does not reach. A
/// page of the largest users takes a few. The order of creations depends on the isolation level. Notices are off,
/// such as that a table exists already.
const OPTIONS: &str = "-c statement_timeout=10000 -c lock_timeout=5000 \
     -c idle_in_transaction_session_timeout=10000 -c client_min_messages=warning \
     -c default_transaction_isolation=read\\ committed";

/// Inspects a session, in one row. Only this program sets the first column.
const SESSION_INFO: &str = "SELECT current_setting('user_server.connection', true),
    current_setting('transaction_read_only'), current_setting('server_encoding')";

/// An address of a host.
#[derive(Clone, PartialEq, Eq)]
enum Address {
    Tcp { host: String, ip: IpAddr, port: u16 },
    Unix { folder: PathBuf, port: u16 },
}

/// Makes connections.
pub(super) struct Connector {
    target: Target,
    /// The address of the last connection.
    last: Mutex<Option<Address>>,
    /// Whether a pooler was detected.
    pooled: AtomicBool,
    /// Connections of an earlier generation are not used again.
    generation: AtomicU64,
    /// Whether a writable host is known. Read-only hosts are then excluded.
    can_write: AtomicBool,
}

impl Connector {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            last: Mutex::new(None),
            pooled: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            can_write: AtomicBool::new(false),
        }
    }

    pub(super) fn tls(&self) -> Tls {
        Tls(self.target.tls.clone())
    }

    /// Whether there are several hosts.
    pub(super) fn has_several_hosts(&self) -> bool {
        let config = &self.target.config;
        config.get_hosts().len().max(config.get_hostaddrs().len()) > 1
    }

    pub(super) fn is_pooled(&self) -> bool {
        self.pooled.load(Ordering::Relaxed)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Starts a new generation: no earlier connection is used again.
    pub(super) fn renew(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Sets whether the probe has found a writable host.
    pub(super) fn set_can_write(&self, can_write: bool) {
        self.can_write.store(can_write, Ordering::Relaxed);
    }

    /// Connects for calls. A read-only host is used only if no writable one is known: a standby may lack the data
    /// that a call has just read.
    pub(super) async fn connect(&self) -> Result<Connection, StoreError> {
        self.connect_to(!self.can_write.load(Ordering::Relaxed)).await
    }

    /// Connects to the first writable host, or else to the first read-only one.
    pub(super) async fn connect_to_any(&self) -> Result<Connection, StoreError> {
        self.connect_to(true).await
    }

    async fn connect_to(&self, allow_read_only: bool) -> Result<Connection, StoreError> {
        let generation = self.generation();
        let (addresses, mut faults) = self.addresses().await;
        let has_several = addresses.len() + faults.len() > 1;
        let mut read_only = None;
        for address in addresses {
            match self.login(&address, generation).await {
                Ok(connection) if connection.can_write() => {
                    self.remember(address);
                    return Ok(connection);
                }
                Ok(connection) if read_only.is_none() => read_only = Some((address, connection)),
                Ok(_) => {}
                Err(error) if has_several => faults.push(error.at_host(&address.to_string())),
                Err(error) => faults.push(error),
            }
        }
        match read_only {
            Some((address, _)) if self.target.must_write => {
                let why = format!("{address} is read-only, and target_session_attrs excludes that");
                Err(StoreError::unavailable(why))
            }
            Some((address, _)) if !allow_read_only => {
                Err(StoreError::unavailable(format!("{address} is read-only")))
            }
            Some((address, connection)) => {
                self.remember(address);
                Ok(connection)
            }
            None => Err(StoreError::all(faults)),
        }
    }

    /// Remembers the address. If it differs from the last one, earlier connections are not used again.
    fn remember(&self, address: Address) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|last| *last != address) {
            self.renew();
        }
        *last = Some(address);
    }

    /// All addresses of all hosts, in the order of attempts, and the errors of name lookups.
    async fn addresses(&self) -> (Vec<Address>, Vec<StoreError>) {
        let mut addresses = Vec::new();
        let mut faults = Vec::new();
        for host in self.hosts() {
            match host.addresses(self.target.connect_timeout).await {
                Ok(found) => addresses.extend(found),
                Err(error) => faults.push(error),
            }
        }
        if self.target.shuffled && !addresses.is_empty() {
            let first = rand::random_range(0..addresses.len());
            addresses.rotate_left(first);
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(position) = addresses.iter().position(|address| Some(address) == last.as_ref())
        {
            addresses[..=position].rotate_right(1);
        }
        (addresses, faults)
    }

    fn hosts(&self) -> Vec<HostEntry> {
        let config = &self.target.config;
        let (hosts, ips) = (config.get_hosts(), config.get_hostaddrs());
        let of = |index: usize| {
            let ports = config.get_ports();
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            HostEntry { host: hosts.get(index).cloned(), ip: ips.get(index).copied(), port }
        };
        (0..hosts.len().max(ips.len())).map(of).collect()
    }

    /// Logs in and inspects the session, all within the connect timeout.
    async fn login(&self, address: &Address, generation: u64) -> Result<Connection, StoreError> {
        let login = async {
            match self.try_login(address, generation, self.is_pooled()).await {
                Err(LoginError::Options(_)) => self.try_login(address, generation, true).await,
                // Perhaps only this session was ended.
                Err(LoginError::Ended(_)) => {
                    self.try_login(address, generation, self.is_pooled()).await
                }
                outcome => outcome,
            }
        };
        match timeout(self.target.connect_timeout, login).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(LoginError::Options(error))) => Err(StoreError::internal(format!(
                "{error}: remove options from the URL, and set them with ALTER ROLE ... SET"
            ))),
            Ok(Err(LoginError::Other(error) | LoginError::Ended(error))) => Err(error),
            Err(_) => {
                let after = self.target.connect_timeout;
                Err(StoreError::unavailable(format!("no answer within {after:?}")))
            }
        }
    }

    /// Sends no options if `pooled`, because poolers refuse them.
    async fn try_login(
        &self,
        address: &Address,
        generation: u64,
        pooled: bool,
    ) -> Result<Connection, LoginError> {
        let own = Uuid::now_v7().to_string();
        let config = self.config(address, (!pooled).then_some(&*own));
        let connected = config.connect(self.tls()).await;
        let (client, connection) =
            connected.map_err(|error| LoginError::from_error(&error, &config))?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a database connection has ended");
            }
        });
        let session = Connection::new(client, task, generation);
        let info =
            inspect_session(session.client()).await.map_err(|error| {
                match error::is_lost(&error) {
                    true => LoginError::Ended(error::of_login(&error)),
                    false => LoginError::Other(error::of_login(&error)),
                }
            })?;
        let settings = match info.connection == own {
            true => Settings::OfSession,
            false => Settings::OfTransaction,
        };
        if settings == Settings::OfTransaction {
            if self.target.config.get_options().is_some() {
                return Err(LoginError::Options(
                    "a pooler ignores the options of the URL".to_owned(),
                ));
            }
            self.pooled.store(true, Ordering::Relaxed);
        }
        if !["UTF8", "SQL_ASCII"].contains(&&*info.encoding) {
            return Err(LoginError::Other(StoreError::internal(format!(
                "the database has the encoding {}, which cannot store every name: create it WITH ENCODING \
                 'UTF8'",
                info.encoding
            ))));
        }
        Ok(session.with(settings, !info.is_read_only))
    }

    /// The configuration for one address.
    fn config(&self, address: &Address, own: Option<&str>) -> Config {
        let of_url = &self.target.config;
        let mut config = Config::new();
        config
            .application_name(of_url.get_application_name().unwrap_or_default())
            .ssl_negotiation(of_url.get_ssl_negotiation())
            .channel_binding(of_url.get_channel_binding())
            .connect_timeout(self.target.connect_timeout)
            .keepalives(of_url.get_keepalives())
            .keepalives_idle(of_url.get_keepalives_idle());
        if let Some(user) = of_url.get_user() {
            config.user(user);
        }
        if let Some(password) = of_url.get_password() {
            config.password(password);
        }
        if let Some(name) = of_url.get_dbname() {
            config.dbname(name);
        }
        if let Some(timeout) = of_url.get_tcp_user_timeout() {
            config.tcp_user_timeout(*timeout);
        }
        if let Some(interval) = of_url.get_keepalives_interval() {
            config.keepalives_interval(interval);
        }
        if let Some(retries) = of_url.get_keepalives_retries() {
            config.keepalives_retries(retries);
        }
        // If an option is set twice, the last one applies.
        let of_url_options = of_url.get_options().unwrap_or_default();
        match own {
            Some(own) => {
                let own = format!("-c user_server.connection={own}");
                config.options(format!("{of_url_options} {OPTIONS} {own}").trim_start())
            }
            None if of_url_options.is_empty() => &mut config,
            None => config.options(of_url_options),
        };
        match address {
            Address::Tcp { host, ip, port } => {
                config.host(host).hostaddr(*ip).port(*port).ssl_mode(of_url.get_ssl_mode())
            }
            // A Unix socket has no TLS, as with libpq.
            Address::Unix { folder, port } => {
                config.host_path(folder).port(*port).ssl_mode(SslMode::Disable)
            }
        };
        config
    }
}

/// A host of the URL.
struct HostEntry {
    host: Option<Host>,
    ip: Option<IpAddr>,
    port: u16,
}

impl HostEntry {
    async fn addresses(self, time_limit: Duration) -> Result<Vec<Address>, StoreError> {
        let port = self.port;
        let (host, ip) = match (self.host, self.ip) {
            (Some(Host::Tcp(host)), ip) => (host, ip),
            #[cfg(unix)]
            (Some(Host::Unix(folder)), _) => return Ok(vec![Address::Unix { folder, port }]),
            (None, Some(ip)) => (ip.to_string(), Some(ip)),
            (None, None) => return Ok(Vec::new()),
        };
        let ips: Vec<IpAddr> = match ip {
            Some(ip) => vec![ip],
            None => {
                let cannot = |why: String| {
                    Err(StoreError::unavailable(format!("cannot look up {host}: {why}")))
                };
                match timeout(time_limit, lookup_host((&*host, port))).await {
                    Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
                    Ok(Err(error)) => return cannot(error.to_string()),
                    Err(_) => return cannot(format!("no answer within {time_limit:?}")),
                }
            }
        };
        Ok(ips.into_iter().map(|ip| Address::Tcp { host: host.clone(), ip, port }).collect())
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, ip, port } => match SocketAddr::new(*ip, *port) {
                address if *host == ip.to_string() => write!(f, "{address}"),
                address => write!(f, "{host} ({address})"),
            },
            Self::Unix { folder, port } => write!(f, "{}:{port}", folder.display()),
        }
    }
}

/// Why a login failed.
enum LoginError {
    /// Perhaps only because of the options.
    Options(String),
    /// An administrator has ended the session.
    Ended(StoreError),
    Other(StoreError),
}

impl LoginError {
    fn from_error(error: &Error, config: &Config) -> Self {
        // PgBouncer answers "unsupported startup parameter: options", with the general code of a protocol
        // violation.
        let is_of_pooler = error.code().is_some_and(|state| state.code() == "08P01");
        match config.get_options() {
            Some(_) if is_of_pooler => Self::Options(error::text(error)),
            _ if error.code() == Some(&SqlState::ADMIN_SHUTDOWN) => {
                Self::Ended(error::of_login(error))
            }
            _ => Self::Other(error::of_login(error)),
        }
    }
}

/// The properties of a session.
struct SessionInfo {
    connection: String,
    is_read_only: bool,
    encoding: String,
}

/// Inspects a session, without a prepared statement: a pooler may not support those.
async fn inspect_session(client: &Client) -> Result<SessionInfo, Error> {
    let messages = client.simple_query(SESSION_INFO).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let column = |index| row.and_then(|row| row.get(index)).unwrap_or_default().to_owned();
    Ok(SessionInfo { connection: column(0), is_read_only: column(1) == "on", encoding: column(2) })
}

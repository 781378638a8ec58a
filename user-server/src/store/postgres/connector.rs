//! New connections: to which host, and with which settings.
//!
//! ```text
//!   each address, the one that did last first ── TCP, TLS, login ──> what is it?
//!                     ^                              |                  |
//!                     |   nothing within the timeout |                  | can be written: that one
//!                     `──────────────────────────────┴──────────────────' can be read: if there is no other
//! ```
//!
//! The settings of a session are part of the login (`options`), where nothing that is set elsewhere
//! overrides them. A pooler such as PgBouncer refuses or ignores them. Then each transaction has them
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

/// The longest that a statement may take, for those that a cancellation does not reach, is in
/// milliseconds: a page of the largest users takes a few. The order of creations depends on the isolation
/// level. That a table is there already is no news.
const OPTIONS: &str = "-c statement_timeout=10000 -c lock_timeout=5000 \
     -c idle_in_transaction_session_timeout=10000 -c client_min_messages=warning \
     -c default_transaction_isolation=read\\ committed";

/// What a session is, in one row. The first column is that which nobody but us has set.
const WHAT: &str = "SELECT current_setting('user_server.connection', true),
    current_setting('transaction_read_only'), current_setting('server_encoding')";

/// Of a host.
#[derive(Clone, PartialEq, Eq)]
enum Address {
    Tcp { host: String, ip: IpAddr, port: u16 },
    Unix { folder: PathBuf, port: u16 },
}

/// Makes connections.
pub(super) struct Connector {
    target: Target,
    /// Where the last connection was made.
    last: Mutex<Option<Address>>,
    /// Whether a pooler was met.
    pooled: AtomicBool,
    /// Connections of earlier ones are not used again.
    generation: AtomicU64,
    /// Whether a host is known that can be written: then no other will do.
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

    /// Whether there are several hosts, of which another one may do.
    pub(super) fn has_choice(&self) -> bool {
        let config = &self.target.config;
        config.get_hosts().len().max(config.get_hostaddrs().len()) > 1
    }

    pub(super) fn is_pooled(&self) -> bool {
        self.pooled.load(Ordering::Relaxed)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Lets no connection be used again that was made before.
    pub(super) fn renew(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the probe has found a host that can be written.
    pub(super) fn set_can_write(&self, can_write: bool) {
        self.can_write.store(can_write, Ordering::Relaxed);
    }

    /// Connects for calls: to a host that can only be read if none is known that can be written. A standby
    /// may lack what a call has just been told.
    pub(super) async fn connect(&self) -> Result<Connection, StoreError> {
        self.connect_to(!self.can_write.load(Ordering::Relaxed)).await
    }

    /// Connects to the first host that can be written, or else to the first that can be read.
    pub(super) async fn connect_to_any(&self) -> Result<Connection, StoreError> {
        self.connect_to(true).await
    }

    async fn connect_to(&self, any: bool) -> Result<Connection, StoreError> {
        let generation = self.generation();
        let (addresses, mut faults) = self.addresses().await;
        let (several, mut readable) = (addresses.len() + faults.len() > 1, None);
        for address in addresses {
            match self.login(&address, generation).await {
                Ok(connection) if connection.can_write() => {
                    self.remember(address);
                    return Ok(connection);
                }
                Ok(connection) if readable.is_none() => readable = Some((address, connection)),
                Ok(_) => {}
                Err(error) if several => faults.push(error.within(&address.to_string())),
                Err(error) => faults.push(error),
            }
        }
        match readable {
            Some((address, _)) if self.target.must_write => {
                let why =
                    format!("{address} can only be read, and target_session_attrs excludes that");
                Err(StoreError::unavailable(why))
            }
            Some((address, _)) if !any => {
                Err(StoreError::unavailable(format!("{address} can only be read")))
            }
            Some((address, connection)) => {
                self.remember(address);
                Ok(connection)
            }
            None => Err(StoreError::all(faults)),
        }
    }

    /// If it is another one than before, what is connected to that is not used any more.
    fn remember(&self, address: Address) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|last| *last != address) {
            self.renew();
        }
        *last = Some(address);
    }

    /// All addresses of all hosts, in the order in which they are tried; and why some have none.
    async fn addresses(&self) -> (Vec<Address>, Vec<StoreError>) {
        let (mut addresses, mut faults) = (Vec::new(), Vec::new());
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

    fn hosts(&self) -> Vec<Named> {
        let config = &self.target.config;
        let (hosts, ips) = (config.get_hosts(), config.get_hostaddrs());
        let of = |index: usize| {
            let ports = config.get_ports();
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            Named { host: hosts.get(index).cloned(), ip: ips.get(index).copied(), port }
        };
        (0..hosts.len().max(ips.len())).map(of).collect()
    }

    /// Logs in, and looks what it is. All of this in the time that it may take to connect.
    async fn login(&self, address: &Address, generation: u64) -> Result<Connection, StoreError> {
        let login = async {
            match self.try_login(address, generation, self.is_pooled()).await {
                Err(Refused::Options(_)) => self.try_login(address, generation, true).await,
                // It may be that session alone.
                Err(Refused::Ended(_)) => {
                    self.try_login(address, generation, self.is_pooled()).await
                }
                outcome => outcome,
            }
        };
        match timeout(self.target.connect_timeout, login).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(Refused::Options(error))) => Err(StoreError::internal(format!(
                "{error}: leave the options out of the URL, and have them set by ALTER ROLE ... SET"
            ))),
            Ok(Err(Refused::For(error) | Refused::Ended(error))) => Err(error),
            Err(_) => {
                let after = self.target.connect_timeout;
                Err(StoreError::unavailable(format!("no answer within {after:?}")))
            }
        }
    }

    /// Asks for no settings if it is `pooled`.
    async fn try_login(
        &self,
        address: &Address,
        generation: u64,
        pooled: bool,
    ) -> Result<Connection, Refused> {
        let own = Uuid::now_v7().to_string();
        let config = self.config(address, (!pooled).then_some(&*own));
        let connected = config.connect(self.tls()).await;
        let (client, connection) = connected.map_err(|error| Refused::by(&error, &config))?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the database has ended");
            }
        });
        let session = Connection::new(client, task, generation);
        let what = what(session.client()).await.map_err(|error| match error::is_lost(&error) {
            true => Refused::Ended(error::of_login(&error)),
            false => Refused::For(error::of_login(&error)),
        })?;
        let settings = match what.connection == own {
            true => Settings::OfSession,
            false => Settings::OfTransaction,
        };
        if settings == Settings::OfTransaction {
            if self.target.config.get_options().is_some() {
                return Err(Refused::Options("a pooler ignores the options of the URL".to_owned()));
            }
            self.pooled.store(true, Ordering::Relaxed);
        }
        if !["UTF8", "SQL_ASCII"].contains(&&*what.encoding) {
            return Err(Refused::For(StoreError::internal(format!(
                "the database has the encoding {}, in which not every name can be written: it has to be \
                 made WITH ENCODING 'UTF8'",
                what.encoding
            ))));
        }
        Ok(session.with(settings, !what.is_read_only))
    }

    /// For one address.
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
        // What comes last counts.
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
            // Without TLS, as with libpq.
            Address::Unix { folder, port } => {
                config.host_path(folder).port(*port).ssl_mode(SslMode::Disable)
            }
        };
        config
    }
}

/// A host of the URL.
struct Named {
    host: Option<Host>,
    ip: Option<IpAddr>,
    port: u16,
}

impl Named {
    async fn addresses(self, patience: Duration) -> Result<Vec<Address>, StoreError> {
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
                    Err(StoreError::unavailable(format!(
                        "the address of {host} is not known: {why}"
                    )))
                };
                match timeout(patience, lookup_host((&*host, port))).await {
                    Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
                    Ok(Err(error)) => return cannot(error.to_string()),
                    Err(_) => return cannot(format!("no answer within {patience:?}")),
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

/// Why there is no connection.
enum Refused {
    /// Perhaps only because it was to have options.
    Options(String),
    /// Somebody has ended the session.
    Ended(StoreError),
    For(StoreError),
}

impl Refused {
    fn by(error: &Error, config: &Config) -> Self {
        // PgBouncer: "unsupported startup parameter: options", with the code of a protocol violation, which
        // it has for much else.
        let is_of_pooler = error.code().is_some_and(|state| state.code() == "08P01");
        match config.get_options() {
            Some(_) if is_of_pooler => Self::Options(error::text(error)),
            _ if error.code() == Some(&SqlState::ADMIN_SHUTDOWN) => {
                Self::Ended(error::of_login(error))
            }
            _ => Self::For(error::of_login(error)),
        }
    }
}

/// What a session is.
struct What {
    connection: String,
    is_read_only: bool,
    encoding: String,
}

/// Without a statement that is prepared: it may be a pooler's session.
async fn what(client: &Client) -> Result<What, Error> {
    let messages = client.simple_query(WHAT).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let column = |index| row.and_then(|row| row.get(index)).unwrap_or_default().to_owned();
    Ok(What { connection: column(0), is_read_only: column(1) == "on", encoding: column(2) })
}

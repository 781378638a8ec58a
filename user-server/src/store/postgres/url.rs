//! The URL of a database, with the parameters of libpq that tokio-postgres does not know.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{LoadBalanceHosts, SslMode};

use super::tls::{Trust, Verify};
use super::{Options, StoreError, error};
use balafon::ClientTls;

/// The default of `connect_timeout`: for TCP, TLS and login at one host together. They take milliseconds in the
/// network of a data center.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The TCP user timeout, and the idle time before TCP keepalive. They detect a host that has lost its power. The
/// defaults of Linux are a quarter of an hour and two hours.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);

/// The parameters of the URL, with the defaults of this program.
pub(super) struct Target {
    /// Includes all hosts.
    pub(super) config: Config,
    pub(super) tls: ClientTls,
    /// Applies to each address of each host.
    pub(super) connect_timeout: Duration,
    /// Whether read-only hosts are excluded (`target_session_attrs`). Otherwise a read-only host is used if there is
    /// no other.
    pub(super) must_write: bool,
    /// Whether the hosts are tried in random order.
    pub(super) shuffled: bool,
}

impl Target {
    /// # Errors
    /// Internal. The text never contains the URL, which may have a password.
    pub(super) fn parse(options: &Options) -> Result<Self, StoreError> {
        let (rest, parameters) = Parameters::take(&options.url)?;
        let config = rest.parse::<Config>();
        let mut config = config.map_err(|error| StoreError::internal(error::text(&error)))?;
        let mode = parameters.mode(&config, options.tls.is_some())?;
        config.ssl_mode(if mode.is_some() { SslMode::Require } else { SslMode::Disable });
        let tls = match (mode, &options.tls) {
            (None, _) => ClientTls::without_authorities(),
            // A CA from the settings always verifies the host name too.
            (Some(Verify::Full), Some(tls)) => tls.clone(),
            (Some(verify), _) => parameters.trust()?.tls(verify)?,
        };
        if config.get_application_name().is_none() {
            config.application_name("user-server");
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(TCP_TIMEOUT);
        }
        if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
            config.keepalives_idle(TCP_TIMEOUT).keepalives_interval(TCP_TIMEOUT);
        }
        Ok(Self {
            tls,
            connect_timeout: config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT),
            must_write: parameters.must_write()?,
            shuffled: config.get_load_balance_hosts() == LoadBalanceHosts::Random,
            config,
        })
    }
}

/// The parameters of the URL that tokio-postgres does not support, or not with all values.
#[derive(Default)]
struct Parameters {
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    target_session_attrs: Option<String>,
}

impl Parameters {
    /// Extracts the parameters, and returns the URL without them.
    fn take(url: &str) -> Result<(String, Self), StoreError> {
        let mut parameters = Self::default();
        let Some((base, query)) = url.split_once('?') else {
            return Ok((url.to_owned(), parameters));
        };
        let mut kept = Vec::new();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let parameter = match key {
                "sslmode" => &mut parameters.sslmode,
                "sslrootcert" => &mut parameters.sslrootcert,
                "target_session_attrs" => &mut parameters.target_session_attrs,
                _ => {
                    kept.push(pair);
                    continue;
                }
            };
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| StoreError::internal(format!("{key} is not UTF-8")))?;
            *parameter = Some(value.into_owned()).filter(|value| !value.is_empty());
        }
        let rest = match kept[..] {
            [] => base.to_owned(),
            _ => format!("{base}?{}", kept.join("&")),
        };
        Ok((rest, parameters))
    }

    /// The verification of the certificate; `None` without TLS. As in libpq, with two exceptions: there is no TLS
    /// without verification, and no fallback from TLS to plain text.
    fn mode(&self, config: &Config, has_ca: bool) -> Result<Option<Verify>, StoreError> {
        let refuse = |why: &str| Err(StoreError::internal(why));
        if has_ca && self.sslrootcert.is_some() {
            return refuse(
                "sslrootcert and the CA of the settings (--store-ca) exclude each other: set one of them",
            );
        }
        let has_root = self.sslrootcert.is_some();
        let mode = self.sslmode.as_deref();
        if self.sslrootcert.as_deref() == Some("system")
            && !matches!(mode, None | Some("verify-full"))
        {
            return refuse("sslrootcert=system requires sslmode=verify-full");
        }
        match mode {
            Some("disable") if has_ca => {
                refuse("sslmode=disable contradicts the CA of the settings (--store-ca)")
            }
            Some("disable") => Ok(None),
            None | Some("allow" | "prefer") if !has_ca && !has_root => Ok(None),
            Some("require") if !has_ca && !has_root => refuse(
                "sslmode=require needs a CA: sslrootcert=FILE in the URL, or --store-ca FILE",
            ),
            Some("require" | "verify-ca") if !has_ca => Ok(Some(Verify::Authority)),
            None | Some("allow" | "prefer" | "require" | "verify-ca" | "verify-full") => {
                match config.get_hosts() {
                    [] if config.get_hostaddrs().is_empty() => refuse("the URL names no host"),
                    _ => Ok(Some(Verify::Full)),
                }
            }
            Some(_) => {
                refuse("sslmode must be disable, allow, prefer, require, verify-ca or verify-full")
            }
        }
    }

    fn trust(&self) -> Result<Trust, StoreError> {
        match self.sslrootcert.as_deref() {
            Some("system") => Ok(Trust::System),
            Some(file) => Ok(Trust::File(PathBuf::from(file))),
            // The default of libpq.
            None => match std::env::home_dir().map(|home| home.join(".postgresql/root.crt")) {
                Some(file) if file.exists() => Ok(Trust::File(file)),
                _ => Err(StoreError::internal(
                    "this sslmode needs a CA: sslrootcert=FILE in the URL, or --store-ca FILE",
                )),
            },
        }
    }

    fn must_write(&self) -> Result<bool, StoreError> {
        match self.target_session_attrs.as_deref() {
            None | Some("any" | "prefer-standby") => Ok(false),
            Some("read-write" | "primary") => Ok(true),
            Some("read-only" | "standby") => Err(StoreError::internal(
                "target_session_attrs selects a read-only database, but this server writes",
            )),
            Some(_) => {
                Err(StoreError::internal("target_session_attrs must be any, read-write or primary"))
            }
        }
    }
}

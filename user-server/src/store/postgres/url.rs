//! The URL of a database, with what libpq takes and tokio-postgres does not know.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{LoadBalanceHosts, SslMode};

use super::tls::{Trust, Verify};
use super::{Options, StoreError, error};
use balafon::ClientTls;

/// For TCP, TLS and the login to one host together, unless the URL has a `connect_timeout`: networks of
/// data centers take milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a peer may be silent that has something to acknowledge, and a quiet connection before it is
/// asked: a machine that has lost its power says nothing. Linux would wait for a quarter of an hour, and
/// for two hours.
const SILENCE: Duration = Duration::from_secs(10);

/// What the URL says, and what we add.
pub(super) struct Target {
    /// With all of the hosts.
    pub(super) config: Config,
    pub(super) tls: ClientTls,
    /// For each address of each host.
    pub(super) connect_timeout: Duration,
    /// Whether a host that can only be read is none (`target_session_attrs`). Otherwise it is one if there
    /// is no other.
    pub(super) must_write: bool,
    /// Whether the hosts are tried in any order.
    pub(super) shuffled: bool,
}

impl Target {
    /// # Errors
    /// Internal, with what is wrong: never with the URL, which may have a password.
    pub(super) fn parse(options: &Options) -> Result<Self, StoreError> {
        let (rest, parameters) = Parameters::take(&options.url)?;
        let config = rest.parse::<Config>();
        let mut config = config.map_err(|error| StoreError::internal(error::text(&error)))?;
        let mode = parameters.mode(&config, options.tls.is_some())?;
        config.ssl_mode(if mode.is_some() { SslMode::Require } else { SslMode::Disable });
        let tls = match (mode, &options.tls) {
            (None, _) => ClientTls::without_authorities(),
            // A CA of the settings goes with the name, whatever the mode is.
            (Some(Verify::Full), Some(tls)) => tls.clone(),
            (Some(verify), _) => parameters.trust()?.tls(verify)?,
        };
        if config.get_application_name().is_none() {
            config.application_name("user-server");
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE);
        }
        if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
            config.keepalives_idle(SILENCE).keepalives_interval(SILENCE);
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

/// Those of the URL that tokio-postgres does not know, or not all values of.
#[derive(Default)]
struct Parameters {
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    target_session_attrs: Option<String>,
}

impl Parameters {
    /// Takes them out of a URL, and leaves the rest of it.
    fn take(url: &str) -> Result<(String, Self), StoreError> {
        let mut parameters = Self::default();
        let Some((place, query)) = url.split_once('?') else {
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
            let value = value.map_err(|_| StoreError::internal(format!("{key} is no UTF-8")))?;
            *parameter = Some(value.into_owned()).filter(|value| !value.is_empty());
        }
        let rest = match kept[..] {
            [] => place.to_owned(),
            _ => format!("{place}?{}", kept.join("&")),
        };
        Ok((rest, parameters))
    }

    /// What is verified of the certificate; `None` without TLS. As libpq has it, but never TLS with whoever
    /// answers, nor TLS that is given up where the other side has none.
    fn mode(&self, config: &Config, has_ca: bool) -> Result<Option<Verify>, StoreError> {
        let refuse = |why: &str| Err(StoreError::internal(why));
        if has_ca && self.sslrootcert.is_some() {
            return refuse("sslrootcert contradicts the CA of the settings: give one of them");
        }
        let has_root = self.sslrootcert.is_some();
        let mode = self.sslmode.as_deref();
        if self.sslrootcert.as_deref() == Some("system")
            && !matches!(mode, None | Some("verify-full"))
        {
            return refuse("sslrootcert=system takes sslmode=verify-full alone");
        }
        match mode {
            Some("disable") if has_ca => refuse("sslmode=disable contradicts the CA"),
            Some("disable") => Ok(None),
            None | Some("allow" | "prefer") if !has_ca && !has_root => Ok(None),
            Some("require") if !has_ca && !has_root => refuse(
                "sslmode=require needs a CA to trust: sslrootcert=FILE in the URL, or --store-ca FILE",
            ),
            Some("require" | "verify-ca") if !has_ca => Ok(Some(Verify::Authority)),
            None | Some("allow" | "prefer" | "require" | "verify-ca" | "verify-full") => {
                match config.get_hosts() {
                    [] if config.get_hostaddrs().is_empty() => refuse("the URL names no host"),
                    _ => Ok(Some(Verify::Full)),
                }
            }
            Some(_) => refuse(
                "sslmode has to be disable, allow, prefer, require, verify-ca or verify-full",
            ),
        }
    }

    fn trust(&self) -> Result<Trust, StoreError> {
        match self.sslrootcert.as_deref() {
            Some("system") => Ok(Trust::System),
            Some(file) => Ok(Trust::File(PathBuf::from(file))),
            // That of libpq.
            None => match std::env::home_dir().map(|home| home.join(".postgresql/root.crt")) {
                Some(file) if file.exists() => Ok(Trust::File(file)),
                _ => Err(StoreError::internal(
                    "this sslmode needs a CA to trust: sslrootcert=FILE in the URL, or --store-ca FILE",
                )),
            },
        }
    }

    fn must_write(&self) -> Result<bool, StoreError> {
        match self.target_session_attrs.as_deref() {
            None | Some("any" | "prefer-standby") => Ok(false),
            Some("read-write" | "primary") => Ok(true),
            Some("read-only" | "standby") => Err(StoreError::internal(
                "target_session_attrs asks for a database that can only be read: this server has to write",
            )),
            Some(_) => Err(StoreError::internal(
                "target_session_attrs has to be any, read-write or primary",
            )),
        }
    }
}

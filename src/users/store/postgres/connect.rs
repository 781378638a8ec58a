//! Connections.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::tls::Tls;
use super::{Options, StoreError};

/// For TCP, TLS and the login together: networks of data centres take milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a call waits for a connection to be free. Those that have a deadline wait no longer than
/// that.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a peer may be silent that has something to acknowledge, and a quiet connection before it is
/// asked: whoever has lost its power says nothing. Linux would wait for a quarter of an hour, and for
/// two hours.
const SILENCE: Duration = Duration::from_secs(10);

/// For every connection, unless the URL has options of its own. The longest that a statement may take,
/// for those whose call was not able to cancel it, is in milliseconds: a page of the largest users
/// takes a few. That a table is there already is no news.
const OPTIONS: &str = "-c statement_timeout=10000 -c lock_timeout=5000 \
     -c idle_in_transaction_session_timeout=10000 -c client_min_messages=warning";

/// What the URL says, and what we add.
pub(super) fn config(options: &Options) -> Result<Config, StoreError> {
    let config = options.url.parse::<Config>();
    // Its error never shows the URL, which may have a password.
    let mut config = config.map_err(|error| StoreError::internal(super::error::text(&error)))?;
    let mode = match (&options.tls, config.get_ssl_mode()) {
        (Some(_), SslMode::Disable) => Err("sslmode=disable contradicts the CA"),
        (Some(_), _) => Ok(SslMode::Require),
        (None, SslMode::Require) => Err("sslmode=require needs a CA to trust"),
        (None, _) => Ok(SslMode::Disable),
    };
    config.ssl_mode(mode.map_err(StoreError::internal)?);
    if config.get_application_name().is_none() {
        config.application_name("user-server");
    }
    if config.get_options().is_none() {
        config.options(OPTIONS);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE);
    }
    if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
        config.keepalives_idle(SILENCE).keepalives_interval(SILENCE);
    }
    config.connect_timeout(CONNECT_TIMEOUT);
    Ok(config)
}

pub(super) fn pool(config: &Config, tls: &Tls, connections: usize) -> Result<Pool, StoreError> {
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config.clone(), tls.clone(), manager);
    Pool::builder(manager)
        .max_size(connections)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(WAIT_TIMEOUT))
        .create_timeout(Some(CONNECT_TIMEOUT))
        .build()
        .map_err(StoreError::internal)
}

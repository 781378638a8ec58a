//! The store that is configured: its options, and whether it exists.

use tokio::runtime::Runtime;

use crate::config::{Config, Layers, Store};
use crate::start_error::StartError;
use crate::store::Found;
use crate::store::postgres::{Options, PostgresStore};
use crate::tls;

/// Fails if `store-must-exist` is set and the store does not exist.
pub(crate) async fn check_existence(config: &Config, layers: &Layers) -> Result<(), StartError> {
    if !config.store.must_exist {
        return Ok(());
    }
    let exists = match &config.store.location {
        Store::Memory => false,
        Store::Sqlite(path) => std::fs::metadata(path).is_ok_and(|file| file.len() > 0),
        Store::Postgres(url) => {
            let found = PostgresStore::inspect(&postgres_options(config, layers, url)?).await;
            // Opening the store reports any other error.
            !matches!(found, Ok(Found::Nothing))
        }
    };
    if exists {
        return Ok(());
    }
    let store = &config.store.location;
    Err(StartError::new(format!(
        "{}: the store {store} does not exist, and {} requires it to",
        layers.name_at_origin("store"),
        layers.name_at_origin("store-must-exist")
    )))
}

pub(crate) fn postgres_options(
    config: &Config,
    layers: &Layers,
    url: &str,
) -> Result<Options, StartError> {
    Ok(Options {
        url: url.to_owned(),
        tls: tls::trust("store-ca", config.store.ca.as_deref(), layers)?,
        connections: config.store.connections as usize,
    })
}

/// The runtime of the main thread. It accepts connections and waits for signals. Calls run on the
/// runtimes of the workers.
pub(crate) fn runtime() -> Result<Runtime, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| StartError::caused_by("cannot start the runtime", error))
}

//! `user-server check` finds mistakes without serving, and `user-server migrate`.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::config::{Config, Layers, Store};
use crate::open_store::{check_existence, postgres_options, runtime};
use crate::start_error::StartError;
use crate::store::Found;
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::tls::Files;
use crate::{auth, limits, traces};

/// A certificate that expires within this time is a warning. Certificates that are renewed automatically
/// are renewed a month before they expire.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// One line of the report.
pub(super) enum Finding {
    Ok(String),
    Warning(String),
    Error(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok(line) => write!(f, "ok: {line}"),
            Self::Warning(line) => write!(f, "warning: {line}"),
            Self::Error(line) => write!(f, "error: {line}"),
        }
    }
}

/// Checks the files and servers that a valid configuration names.
pub(super) fn run(config: &Config, layers: &Layers) -> Vec<Finding> {
    let mut findings = vec![Finding::Ok("configuration".to_owned())];
    findings.extend(layers.warnings().iter().cloned().map(Finding::Warning));
    findings.extend(certificate(config, layers));
    findings.append(&mut authentication(config, layers));
    findings.extend(redis(config, layers));
    findings.extend(collector(config, layers));
    findings.push(match runtime().and_then(|it| it.block_on(check_existence(config, layers))) {
        Ok(()) => store(config, layers),
        Err(error) => Finding::Error(error.to_string()),
    });
    findings
}

/// `None` without TLS.
fn certificate(config: &Config, layers: &Layers) -> Option<Finding> {
    let files = Files::of(config, layers)?;
    let tls = match files.read().and_then(|contents| files.parse(&contents)) {
        Ok(tls) => tls,
        Err(error) => return Some(Finding::Error(error.to_string())),
    };
    let now = SystemTime::now();
    Some(match (files.validity(&tls, now), files.validity(&tls, now + SOON)) {
        (Err(error), _) => Finding::Error(error.to_string()),
        (Ok(()), Err(_)) => Finding::Warning(format!(
            "{}: the certificate expires within 14 days",
            layers.name_at_origin("tls.cert")
        )),
        (Ok(()), Ok(())) => {
            Finding::Ok("TLS: the certificate is valid, and the key matches it".to_owned())
        }
    })
}

/// The contents of each file, so that the operator can compare them with the intention. Nothing without
/// authentication.
fn authentication(config: &Config, layers: &Layers) -> Vec<Finding> {
    let auth = match auth::build(config, layers) {
        Ok(None) => return Vec::new(),
        Ok(Some((auth, _))) => auth,
        Err(error) => return vec![Finding::Error(error.to_string())],
    };
    let mut findings = Vec::new();
    for (url, problem) in auth.unfetched() {
        let name = auth::setting_of(config, layers, url);
        findings.push(Finding::Error(format!("{name}: {}: {problem}", url.display())));
    }
    if findings.is_empty() {
        findings.push(Finding::Ok("authentication: all files are valid".to_owned()));
    }
    for (file, contents) in auth.files() {
        let name = auth::setting_of(config, layers, file);
        findings.push(Finding::Ok(format!("{name}: {}: {contents}", file.display())));
    }
    findings
}

/// An error if the file of the collector's certificate authorities is not valid. The collector itself is
/// not contacted.
fn collector(config: &Config, layers: &Layers) -> Option<Finding> {
    traces::endpoint(config, layers).err().map(|error| Finding::Error(error.to_string()))
}

/// `None` without Redis. An unreachable Redis is only a warning: the server works without it.
fn redis(config: &Config, layers: &Layers) -> Option<Finding> {
    let shared = runtime().and_then(|runtime| runtime.block_on(limits::shared(config, layers)));
    let shared = match shared {
        Ok(shared) => shared?,
        Err(error) => return Some(Finding::Error(error.to_string())),
    };
    let name = layers.name_at_origin("rate-limit.redis");
    Some(match shared.trouble() {
        None => Finding::Ok("rate limits: Redis answers".to_owned()),
        Some(why) if shared.is_unsupported() => Finding::Error(format!("{name}: {why}")),
        Some(why) => {
            Finding::Warning(format!("{name}: {why}: each instance would limit calls by itself"))
        }
    })
}

/// Inspects the store without changing it.
fn store(config: &Config, layers: &Layers) -> Finding {
    let found = match &config.store.location {
        Store::Memory => Ok(Found::Current),
        Store::Sqlite(path) => SqliteStore::inspect(path),
        Store::Postgres(url) => {
            let inspect = || -> Result<_, StartError> {
                let options = postgres_options(config, layers, url)?;
                Ok(runtime()?.block_on(PostgresStore::inspect(&options)))
            };
            match inspect() {
                Ok(found) => found,
                Err(error) => return Finding::Error(error.to_string()),
            }
        }
    };
    let store = &config.store.location;
    match found {
        Ok(Found::Current) => Finding::Ok(format!("store {store}")),
        Ok(Found::Nothing) => Finding::Ok(format!("store {store}: would be created")),
        Ok(Found::Older) => Finding::Ok(format!("store {store}: would be migrated")),
        Ok(Found::ReadOnly) => Finding::Warning(format!(
            "{}: {store} is read-only: users could be read, but health would be NOT_SERVING",
            layers.name_at_origin("store")
        )),
        // Probably the running server, which is about to be restarted with this configuration.
        Ok(Found::InUse) => Finding::Warning(format!(
            "{}: {store} is in use by another process: it was not inspected",
            layers.name_at_origin("store")
        )),
        Err(error) => Finding::Error(format!("{}: {error}", layers.name_at_origin("store"))),
    }
}

/// `user-server migrate`.
pub(super) fn migrate(config: &Config, layers: &Layers) -> Finding {
    let (store, name) = (&config.store.location, layers.name_at_origin("store"));
    let Store::Postgres(url) = store else {
        return Finding::Error(format!(
            "{name}: migrate is for PostgreSQL only: the server creates and migrates {store} when it starts"
        ));
    };
    let migrate = || -> Result<_, StartError> {
        let options = postgres_options(config, layers, url)?;
        let migrated = runtime()?.block_on(PostgresStore::migrate(&options));
        migrated.map_err(|error| StartError::caused_by(name, error))
    };
    match migrate() {
        Ok(Found::Nothing) => Finding::Ok(format!("store {store}: created")),
        Ok(Found::Older) => Finding::Ok(format!("store {store}: migrated")),
        Ok(_) => Finding::Ok(format!("store {store}: already up to date")),
        Err(error) => Finding::Error(error.to_string()),
    }
}

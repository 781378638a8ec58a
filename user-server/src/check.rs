//! `user-server check`: what can be found wrong without serving.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::config::{Config, Layers, Store};
use super::tls::Files;
use super::{StartError, auth, limits, must_exist, postgres, runtime, traces};
use crate::store::Found;
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;

/// How long before its end a certificate is worth a warning: those that are renewed by themselves
/// are renewed a month before it.
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

/// What there is to say of a configuration that has no mistakes by itself.
pub(super) fn run(config: &Config, layers: &Layers) -> Vec<Finding> {
    let mut findings = vec![Finding::Ok("configuration".to_owned())];
    findings.extend(layers.warnings().iter().cloned().map(Finding::Warning));
    findings.extend(certificate(config, layers));
    findings.append(&mut authentication(config, layers));
    findings.extend(redis(config, layers));
    findings.extend(collector(config, layers));
    findings.push(match runtime().and_then(|it| it.block_on(must_exist(config, layers))) {
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
            layers.place("tls.cert")
        )),
        (Ok(()), Ok(())) => {
            Finding::Ok("TLS: the certificate is valid, and the key is its".to_owned())
        }
    })
}

/// What was read of each file, for somebody to compare with what was meant; nothing where nobody has
/// to prove anything.
fn authentication(config: &Config, layers: &Layers) -> Vec<Finding> {
    let auth = match auth::build(config, layers) {
        Ok(None) => return Vec::new(),
        Ok(Some((auth, _))) => auth,
        Err(error) => return vec![Finding::Error(error.to_string())],
    };
    let mut findings = Vec::new();
    for (url, problem) in auth.unfetched() {
        let place = auth::place(config, layers, url);
        findings.push(Finding::Error(format!("{place}: {}: {problem}", url.display())));
    }
    if findings.is_empty() {
        findings.push(Finding::Ok("authentication: all its files can be used".to_owned()));
    }
    for (file, holds) in auth.files() {
        let place = auth::place(config, layers, file);
        findings.push(Finding::Ok(format!("{place}: {}: {holds}", file.display())));
    }
    findings
}

/// The file of authorities by which it is trusted, if that cannot be used. Whether it is there is not
/// looked at.
fn collector(config: &Config, layers: &Layers) -> Option<Finding> {
    traces::endpoint(config, layers).err().map(|error| Finding::Error(error.to_string()))
}

/// `None` without one. That it is away is no error: the server does without it.
fn redis(config: &Config, layers: &Layers) -> Option<Finding> {
    let shared = runtime().and_then(|runtime| runtime.block_on(limits::shared(config, layers)));
    let shared = match shared {
        Ok(shared) => shared?,
        Err(error) => return Some(Finding::Error(error.to_string())),
    };
    let place = layers.place("rate-limit.redis");
    Some(match shared.trouble() {
        None => Finding::Ok("rate limits: Redis answers".to_owned()),
        Some(why) if shared.is_unsupported() => Finding::Error(format!("{place}: {why}")),
        Some(why) => Finding::Warning(format!("{place}: {why}: limits would be local")),
    })
}

/// Looked at, and left as it is.
fn store(config: &Config, layers: &Layers) -> Finding {
    let found = match &config.store {
        Store::Memory => Ok(Found::Current),
        Store::Sqlite(path) => SqliteStore::inspect(path),
        Store::Postgres(url) => {
            let inspect = || -> Result<_, StartError> {
                let options = postgres(config, layers, url)?;
                Ok(runtime()?.block_on(PostgresStore::inspect(&options)))
            };
            match inspect() {
                Ok(found) => found,
                Err(error) => return Finding::Error(error.to_string()),
            }
        }
    };
    let store = &config.store;
    match found {
        Ok(Found::Current) => Finding::Ok(format!("store {store}")),
        Ok(Found::Nothing) => Finding::Ok(format!("store {store}: would be made")),
        Ok(Found::Older) => Finding::Ok(format!("store {store}: would be brought up to date")),
        Ok(Found::ReadOnly) => Finding::Warning(format!(
            "{}: {store} can only be read: users would be read, and health would be NOT_SERVING",
            layers.place("store")
        )),
        // That may be the server which is to be restarted with this configuration.
        Ok(Found::InUse) => Finding::Warning(format!(
            "{}: {store} is in use by another process: not looked into",
            layers.place("store")
        )),
        Err(error) => Finding::Error(format!("{}: {error}", layers.place("store"))),
    }
}

/// `user-server migrate`.
pub(super) fn migrate(config: &Config, layers: &Layers) -> Finding {
    let (store, place) = (&config.store, layers.place("store"));
    let Store::Postgres(url) = store else {
        return Finding::Error(format!(
            "{place}: {store} has no owner but the server, which makes it and brings it up to date when it \
             starts: migrate is for PostgreSQL"
        ));
    };
    let migrate = || -> Result<_, StartError> {
        let options = postgres(config, layers, url)?;
        let migrated = runtime()?.block_on(PostgresStore::migrate(&options));
        migrated.map_err(|error| StartError(format!("{place}: {error}")))
    };
    match migrate() {
        Ok(Found::Nothing) => Finding::Ok(format!("store {store}: made")),
        Ok(Found::Older) => Finding::Ok(format!("store {store}: brought up to date")),
        Ok(_) => Finding::Ok(format!("store {store}: up to date already")),
        Err(error) => Finding::Error(error.to_string()),
    }
}

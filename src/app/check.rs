//! `user-server check`: what can be found wrong without serving.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::config::{Config, Layers, Store};
use super::tls;

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
    findings.extend(certificates(config, layers));
    findings.push(match config.store {
        Store::Memory => Finding::Ok(format!("store {}", Store::Memory)),
    });
    findings
}

fn certificates(config: &Config, layers: &Layers) -> Option<Finding> {
    let tls = match tls::from_files(config, layers) {
        Ok(Some(tls)) => tls,
        Ok(None) => return None,
        Err(error) => return Some(Finding::Error(error.to_string())),
    };
    let cert = layers.place("tls.cert");
    let now = SystemTime::now();
    Some(match (tls.validity(now), tls.validity(now + SOON)) {
        (Err(error), _) => Finding::Error(format!("{cert}: {error}")),
        (Ok(()), Err(_)) => {
            Finding::Warning(format!("{cert}: the certificate expires within 14 days"))
        }
        (Ok(()), Ok(())) => {
            Finding::Ok("TLS: the certificate is valid, and the key is its".to_owned())
        }
    })
}

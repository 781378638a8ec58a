//! Authentication and permissions, as they are configured.

use std::path::Path;

use super::StartError;
use super::access::{Grant, UserAccess};
use super::config::{Config, Discovery, Grantee, Jwks, Layers};
use super::tls::trust_or_system;
use crate::service::View;
use balafon::Method;
use balafon::interceptors::auth::{Auth, AuthError, JwksUrl, KeyFile, Permissions};
use balafon::interceptors::{InvalidPattern, MethodPattern};
use balafon::services::health::pb::health;

/// Not limited: a server that is busy is not to be taken for one that is ill.
pub(super) const HEALTH: &str = "grpc.health.v1.Health/*";

/// What load balancers and orchestrators ask, without credentials.
const PROBES: [&str; 2] = ["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"];

/// What tells strangers what the server has.
const DISCOVERY: [&str; 3] = [
    "grpc.health.v1.Health/List",
    "grpc.reflection.v1.ServerReflection/*",
    "grpc.reflection.v1alpha.ServerReflection/*",
];

pub(super) fn is_health(method: &Method) -> bool {
    method.service == health::NAME
}

/// The interceptors, to be registered in this order behind the access log, and what is to know who
/// calls between them. `None` where nobody has to prove anything.
pub(super) fn build(
    config: &Config,
    layers: &Layers,
) -> Result<Option<(Auth, UserAccess)>, StartError> {
    if !config.asks_who_calls() {
        return Ok(None);
    }
    let permissions = permissions(config)
        .map_err(|error| StartError(format!("{} has an {error}", layers.place("auth.allow"))))?;
    let issuer = issuer(config, layers)?;
    let auth = authentication(config, issuer, permissions).map_err(|error| {
        let place = match error.file() {
            Some(file) => place(config, layers, file),
            None => "authentication".to_owned(),
        };
        StartError(format!("{place}: {error}"))
    })?;
    Ok(Some((auth, UserAccess::new(grants(config)))))
}

/// The setting that names a file or a URL.
pub(super) fn place(config: &Config, layers: &Layers, file: &Path) -> String {
    let named = files(config).into_iter().find(|(_, named)| *named == Some(file));
    named.map_or_else(|| "authentication".to_owned(), |(key, _)| layers.place(key).to_string())
}

/// Each setting that names a file or a URL, and which.
fn files(config: &Config) -> [(&'static str, Option<&Path>); 6] {
    [
        ("auth.jwks", config.auth_jwks.as_ref().map(Jwks::name)),
        ("auth.public-key", config.auth_public_key.as_deref()),
        ("auth.secret", config.auth_secret.as_deref()),
        ("auth.revoked", config.auth_revoked.as_deref()),
        ("auth.api-keys", config.auth_api_keys.as_deref()),
        ("auth.certificates", config.auth_certificates.as_deref()),
    ]
}

/// Where the issuer publishes its keys, if it does, with whom to trust.
fn issuer(config: &Config, layers: &Layers) -> Result<Option<JwksUrl>, StartError> {
    let Some(Jwks::Url(url)) = &config.auth_jwks else { return Ok(None) };
    let url = url.clone().refresh_every(config.auth_jwks_refresh);
    if !url.is_tls() {
        return Ok(Some(url));
    }
    let ca = ("auth.jwks-ca", config.auth_jwks_ca.as_deref());
    Ok(Some(url.trust(trust_or_system(ca, "auth.jwks", layers)?)))
}

fn authentication(
    config: &Config,
    issuer: Option<JwksUrl>,
    permissions: Permissions,
) -> Result<Auth, AuthError> {
    let jwks = match &config.auth_jwks {
        Some(Jwks::File(path)) => Some(KeyFile::jwks(path)),
        Some(Jwks::Url(_)) | None => None,
    };
    let keys = [
        jwks,
        config.auth_public_key.as_ref().map(KeyFile::pem),
        config.auth_secret.as_ref().map(KeyFile::secret),
    ];
    let mut auth = Auth::builder().permissions(permissions).leeway(config.auth_leeway);
    auth = keys.into_iter().flatten().fold(auth, |auth, keys| auth.keys(keys));
    auth = issuer.into_iter().fold(auth, |auth, url| auth.jwks_url(url));
    auth = auth.roles_claim(&config.auth_roles_claim);
    auth = config.auth_issuer.iter().fold(auth, |auth, issuer| auth.issuer(issuer));
    auth = config.auth_audience.iter().fold(auth, |auth, audience| auth.audience(audience));
    auth = auth.failures_per_minute(config.auth_failures);
    auth = config.trusted_proxies.iter().fold(auth, |auth, proxy| auth.trust_proxy(*proxy));
    auth = config.auth_revoked.iter().fold(auth, |auth, file| auth.revoked(file));
    auth = config.auth_api_keys.iter().fold(auth, |auth, file| auth.api_keys(file));
    auth = config.auth_certificates.iter().fold(auth, |auth, file| auth.certificates(file));
    auth.build()
}

fn permissions(config: &Config) -> Result<Permissions, InvalidPattern> {
    let mut permissions = Permissions::new();
    for pattern in PROBES {
        permissions = permissions.open(pattern)?;
    }
    match config.auth_discovery {
        Discovery::Allowed | Discovery::Off => {}
        Discovery::Authenticated => permissions = permissions.authenticated(DISCOVERY)?,
        Discovery::Open => {
            for pattern in DISCOVERY {
                permissions = permissions.open(pattern)?;
            }
        }
    }
    for (to, pattern) in &config.auth_allow {
        let pattern = pattern.to_string();
        permissions = match to {
            Grantee::Role(role) => permissions.role(role, [&*pattern])?,
            Grantee::Scope(scope) => permissions.scope(scope, [&*pattern])?,
        };
    }
    Ok(permissions)
}

fn grants(config: &Config) -> Vec<Grant> {
    let grant = |(to, allow): &(Grantee, MethodPattern)| {
        let limits = config.auth_limit.iter().filter(|(limited, _)| limited == to);
        let view = limits.fold(View::default(), |view, (_, limit)| view.and(*limit));
        Grant { to: to.clone(), allow: allow.clone(), view }
    };
    config.auth_allow.iter().map(grant).collect()
}

//! Authentication and permissions, from the settings.

use std::path::Path;

use crate::access::{Grant, UserAccess};
use crate::config::{Config, Discovery, Grantee, Jwks, Layers};
use crate::service::View;
use crate::start_error::StartError;
use crate::tls::trust_or_system;
use balafon::interceptors::InvalidPattern;
use balafon::interceptors::auth::{Auth, AuthError, JwksUrl, KeyFile, Permissions};

/// The methods that load balancers and orchestrators call without credentials.
const PROBES: [&str; 2] = ["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"];

/// The methods that reveal the services and methods of the server.
const DISCOVERY: [&str; 3] = [
    "grpc.health.v1.Health/List",
    "grpc.reflection.v1.ServerReflection/*",
    "grpc.reflection.v1alpha.ServerReflection/*",
];

/// The interceptors of authentication and of access to users. They are registered in this order inside the
/// access log. An interceptor that needs the principal goes between them. `None` without authentication.
pub(super) fn build(
    config: &Config,
    layers: &Layers,
) -> Result<Option<(Auth, UserAccess)>, StartError> {
    if !config.auth.is_on() {
        return Ok(None);
    }
    let permissions = permissions(config)
        .map_err(|error| StartError::caused_by(layers.name_at_origin("auth.allow"), error))?;
    let issuer = issuer(config, layers)?;
    let auth = authentication(config, issuer, permissions).map_err(|error| {
        let setting = match error.file() {
            Some(file) => setting_of(config, layers, file),
            None => "authentication".to_owned(),
        };
        StartError::caused_by(setting, error)
    })?;
    Ok(Some((auth, UserAccess::new(grants(config)))))
}

/// The setting that names a file or a URL, for errors.
pub(super) fn setting_of(config: &Config, layers: &Layers, file: &Path) -> String {
    for (key, path) in files(config) {
        if path == Some(file) {
            return layers.name_at_origin(key).to_string();
        }
    }
    "authentication".to_owned()
}

/// Each setting that names a file or a URL, with its value.
fn files(config: &Config) -> [(&'static str, Option<&Path>); 6] {
    [
        ("auth.jwks", config.auth.jwks.as_ref().map(Jwks::name)),
        ("auth.public-key", config.auth.public_key.as_deref()),
        ("auth.secret", config.auth.secret.as_deref()),
        ("auth.revoked", config.auth.revoked.as_deref()),
        ("auth.api-keys", config.auth.api_keys.as_deref()),
        ("auth.certificates", config.auth.certificates.as_deref()),
    ]
}

/// The URL of the issuer's keys, if it is configured, with its certificate authorities.
fn issuer(config: &Config, layers: &Layers) -> Result<Option<JwksUrl>, StartError> {
    let Some(Jwks::Url(url)) = &config.auth.jwks else { return Ok(None) };
    let url = url.clone().refresh_every(config.auth.jwks_refresh);
    if !url.is_tls() {
        return Ok(Some(url));
    }
    let ca = ("auth.jwks-ca", config.auth.jwks_ca.as_deref());
    Ok(Some(url.trust(trust_or_system(ca, "auth.jwks", layers)?)))
}

fn authentication(
    config: &Config,
    issuer: Option<JwksUrl>,
    permissions: Permissions,
) -> Result<Auth, AuthError> {
    let settings = &config.auth;
    let mut auth = Auth::builder().permissions(permissions).leeway(settings.leeway);
    if let Some(Jwks::File(path)) = &settings.jwks {
        auth = auth.keys(KeyFile::jwks(path));
    }
    if let Some(path) = &settings.public_key {
        auth = auth.keys(KeyFile::pem(path));
    }
    if let Some(path) = &settings.secret {
        auth = auth.keys(KeyFile::secret(path));
    }
    if let Some(url) = issuer {
        auth = auth.jwks_url(url);
    }
    auth = auth.roles_claim(&settings.roles_claim);
    for issuer in &settings.issuer {
        auth = auth.issuer(issuer);
    }
    for audience in &settings.audience {
        auth = auth.audience(audience);
    }
    auth = auth.failures_per_minute(settings.failures_per_minute);
    for proxy in &config.rate_limit.trusted_proxies {
        auth = auth.trust_proxy(*proxy);
    }
    if let Some(file) = &settings.revoked {
        auth = auth.revoked(file);
    }
    if let Some(file) = &settings.api_keys {
        auth = auth.api_keys(file);
    }
    if let Some(file) = &settings.certificates {
        auth = auth.certificates(file);
    }
    auth.build()
}

fn permissions(config: &Config) -> Result<Permissions, InvalidPattern> {
    let mut permissions = Permissions::new();
    for pattern in PROBES {
        permissions = permissions.open(pattern)?;
    }
    match config.auth.discovery {
        Discovery::Allowed | Discovery::Off => {}
        Discovery::Authenticated => permissions = permissions.authenticated(DISCOVERY)?,
        Discovery::Open => {
            for pattern in DISCOVERY {
                permissions = permissions.open(pattern)?;
            }
        }
    }
    for (to, pattern) in &config.auth.allow {
        let pattern = pattern.to_string();
        permissions = match to {
            Grantee::Role(role) => permissions.role(role, [&*pattern])?,
            Grantee::Scope(scope) => permissions.scope(scope, [&*pattern])?,
        };
    }
    Ok(permissions)
}

fn grants(config: &Config) -> Vec<Grant> {
    let mut grants = Vec::new();
    for (to, allow) in &config.auth.allow {
        let mut view = View::default();
        for (limited, limit) in &config.auth.limit {
            if limited == to {
                view = view.and(*limit);
            }
        }
        grants.push(Grant { to: to.clone(), allow: allow.clone(), view });
    }
    grants
}

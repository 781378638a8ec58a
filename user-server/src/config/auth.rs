//! The values of the settings of authentication.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kind::{File, Kind};
use super::table::Config;
use super::units;
use crate::service::View;
use balafon::interceptors::MethodPattern;
use balafon::interceptors::auth::JwksUrl;

/// To whom something is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Grantee {
    Role(String),
    Scope(String),
}

/// Methods that a role or a scope may call: `support=*/GetUser`.
pub(crate) enum Allow {}

/// What a role or a scope does not see: `support=masked-email`.
pub(crate) enum Limit {}

/// How far the clock of an issuer may be off.
pub(crate) enum Leeway {}

/// Where the JWKS of an issuer is.
#[derive(Debug, Clone)]
pub(crate) enum Jwks {
    File(PathBuf),
    Url(JwksUrl),
}

impl Jwks {
    /// The file, or the URL.
    pub(crate) fn name(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Url(url) => url.as_path(),
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Url(url) if url.is_tls())
    }
}

impl Config {
    /// Whether clients can prove who they are in any way, so that they have to.
    pub(crate) fn asks_who_calls(&self) -> bool {
        self.accepts_tokens() || self.auth_api_keys.is_some() || self.auth_certificates.is_some()
    }

    /// Whether tokens are one of these ways.
    pub(super) fn accepts_tokens(&self) -> bool {
        self.auth_jwks.is_some() || self.auth_public_key.is_some() || self.auth_secret.is_some()
    }
}

impl Grantee {
    /// What stands before the last `=`, and what is behind it: a scope may have one in its name.
    fn before(text: &str) -> Option<(Self, &str)> {
        let (name, what) = text.rsplit_once('=')?;
        let (to, name): (fn(String) -> Self, _) = match name.strip_prefix("scope:") {
            Some(scope) => (Self::Scope, scope),
            None => (Self::Role, name),
        };
        (!name.is_empty()).then(|| (to(name.to_owned()), what))
    }
}

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => f.write_str(role),
            Self::Scope(scope) => write!(f, "scope:{scope}"),
        }
    }
}

impl Kind for Allow {
    type Value = (Grantee, MethodPattern);

    fn wanted() -> String {
        "ROLE=METHODS or scope:SCOPE=METHODS, where METHODS is package.Service/Method, \
         package.Service/*, */Method or *"
            .to_owned()
    }

    fn parse(text: &str) -> Option<Self::Value> {
        let (to, pattern) = Grantee::before(text)?;
        Some((to, pattern.parse().ok()?))
    }
}

impl Kind for Limit {
    type Value = (Grantee, View);

    fn wanted() -> String {
        "ROLE=LIMIT or scope:SCOPE=LIMIT, where LIMIT is masked-email or active-only".to_owned()
    }

    fn parse(text: &str) -> Option<Self::Value> {
        let (to, limit) = Grantee::before(text)?;
        let view = match limit {
            "masked-email" => View { masked_email: true, ..View::default() },
            "active-only" => View { active_only: true, ..View::default() },
            _ => return None,
        };
        Some((to, view))
    }
}

impl Kind for Jwks {
    type Value = Self;

    fn wanted() -> String {
        "the path of a file, or https://HOST[:PORT]/PATH without a user; http only on this machine"
            .to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        match text.contains("://") {
            true => text.parse().ok().map(Self::Url),
            false => File::parse(text).map(Self::File),
        }
    }
}

impl Kind for Leeway {
    type Value = Duration;

    fn wanted() -> String {
        format!("{}, and at most 1d", units::DURATIONS)
    }

    fn parse(text: &str) -> Option<Duration> {
        units::duration(text).filter(|time| *time <= Duration::from_secs(24 * 60 * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_to_a_role_or_a_scope() {
        let to = |text| Allow::parse(text).map(|(to, _)| to);
        assert_eq!(to("admin=*"), Some(Grantee::Role("admin".to_owned())));
        assert_eq!(to("scope:a=b=*/Get"), Some(Grantee::Scope("a=b".to_owned())));
        for text in ["", "admin", "admin=", "=*", "scope:=*", "admin=Get", "admin=*/Get */Put"] {
            assert_eq!(to(text), None, "{text}");
        }
    }

    #[test]
    fn a_jwks_is_a_file_or_a_url() {
        let is_url = |text| Jwks::parse(text).map(|it| matches!(it, Jwks::Url(_)));
        for file in ["jwks.json", "/etc/jwks.json", "a:b"] {
            assert_eq!(is_url(file), Some(false), "{file}");
        }
        for url in ["https://a/jwks", "http://127.0.0.1:8080/jwks"] {
            assert_eq!(is_url(url), Some(true), "{url}");
        }
        for text in ["", "http://a/jwks", "file:///jwks.json", "https://", "https://a:b@c/jwks"] {
            assert_eq!(is_url(text), None, "{text}");
        }
    }

    #[test]
    fn a_limit_is_one_of_two() {
        assert!(Limit::parse("support=masked-email").unwrap().1.masked_email);
        assert!(Limit::parse("scope:a=active-only").unwrap().1.active_only);
        assert!(Limit::parse("support=nothing").is_none());
    }
}

//! Kinds of values of the authentication settings.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kind::{File, Kind};
use super::units;
use crate::service::View;
use balafon::interceptors::MethodPattern;
use balafon::interceptors::auth::JwksUrl;

/// The role or scope that a permission is granted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Grantee {
    Role(String),
    Scope(String),
}

/// Methods that a role or a scope may call: `support=*/GetUser`.
pub(crate) enum Allow {}

/// A limit on the data that a role or a scope can see: `support=masked-email`.
pub(crate) enum Limit {}

/// The tolerated clock difference to a token issuer: at most a day.
pub(crate) enum Leeway {}

/// The location of an issuer's JWKS.
#[derive(Debug, Clone)]
pub(crate) enum Jwks {
    File(PathBuf),
    Url(JwksUrl),
}

impl Jwks {
    /// The file or the URL, as a path.
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

impl Grantee {
    /// The grantee before the last `=`, and the text after it. The name of a scope may contain `=`.
    fn split(text: &str) -> Option<(Self, &str)> {
        let (name, grant) = text.rsplit_once('=')?;
        let grantee = match name.strip_prefix("scope:") {
            Some("") => return None,
            Some(scope) => Self::Scope(scope.to_owned()),
            None if name.is_empty() => return None,
            None => Self::Role(name.to_owned()),
        };
        Some((grantee, grant))
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
        let (to, pattern) = Grantee::split(text)?;
        Some((to, pattern.parse().ok()?))
    }
}

impl Kind for Limit {
    type Value = (Grantee, View);

    fn wanted() -> String {
        "ROLE=LIMIT or scope:SCOPE=LIMIT, where LIMIT is masked-email or active-only".to_owned()
    }

    fn parse(text: &str) -> Option<Self::Value> {
        let (to, limit) = Grantee::split(text)?;
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
    fn auth_allow_names_a_role_or_a_scope() {
        let to = |text| Allow::parse(text).map(|(to, _)| to);
        assert_eq!(to("admin=*"), Some(Grantee::Role("admin".to_owned())));
        assert_eq!(to("scope:a=b=*/Get"), Some(Grantee::Scope("a=b".to_owned())));
        for text in ["", "admin", "admin=", "=*", "scope:=*", "admin=Get", "admin=*/Get */Put"] {
            assert_eq!(to(text), None, "{text}");
        }
    }

    #[test]
    fn jwks_is_a_file_or_a_url() {
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
    fn auth_limit_is_masked_email_or_active_only() {
        assert!(Limit::parse("support=masked-email").unwrap().1.masked_email);
        assert!(Limit::parse("scope:a=active-only").unwrap().1.active_only);
        assert!(Limit::parse("support=nothing").is_none());
    }
}

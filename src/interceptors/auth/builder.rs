use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use std::{fmt, io};

use super::api_key::ApiKeys;
use super::authenticator::{Authenticator, Authenticators};
use super::cache::Cache;
use super::certificate::{Certificates, Roles};
use super::claims::Claims;
use super::contents::Contents;
use super::failures::FailureLimit;
use super::file::Watched;
use super::jwt::Tokens;
use super::keys::KeyError;
use super::remote::Remote;
use super::state::{State, watch};
use super::table::Revoked;
use super::{Auth, JwksUrl, KeyFile, Permissions, crypto};
use crate::http_client::BoxError;
use crate::interceptors::TrustedProxy;

/// Clocks that NTP synchronizes differ by less.
const LEEWAY: Duration = Duration::from_secs(30);

/// A larger skew is a broken clock. The bound also keeps sums of times from overflowing.
const MAX_LEEWAY: Duration = Duration::from_secs(24 * 3600);

/// A revocation takes effect after two reads. A read costs some microseconds.
const RELOAD: Duration = Duration::from_secs(1);

/// Settings of [`Auth`].
#[derive(Debug, Clone)]
pub struct AuthBuilder {
    authenticators: Authenticators,
    keys: Vec<KeyFile>,
    urls: Vec<JwksUrl>,
    claims: Claims,
    revoked: Option<PathBuf>,
    api_keys: Option<PathBuf>,
    certificates: Option<PathBuf>,
    permissions: Permissions,
    failures: FailureLimit,
    reload: Duration,
}

impl AuthBuilder {
    pub(super) fn new() -> Self {
        let claims = Claims {
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway: LEEWAY,
            roles: "roles".to_owned(),
        };
        Self {
            authenticators: Authenticators::default(),
            keys: Vec::new(),
            urls: Vec::new(),
            claims,
            revoked: None,
            api_keys: None,
            certificates: None,
            permissions: Permissions::new(),
            failures: FailureLimit::new(),
            reload: RELOAD,
        }
    }

    /// Authenticates calls by code of the application. May be repeated: they are asked in this
    /// order, and before the built-in ways, until one finds credentials.
    ///
    /// It is asked for each call, also from an address with too many failures. One that is expensive
    /// has to cache its results.
    #[must_use]
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.authenticators.push(authenticator);
        self
    }

    /// Accepts tokens (JWT, RFC 7519) in `authorization: Bearer` that are signed with one of these
    /// keys. May be repeated. A token that names a key (`kid`) is verified with keys of that name, then
    /// with keys without a name. A token that names no key is verified with keys without a name only.
    ///
    /// A token has to have `exp` and `sub`, which is the name of the principal. Its scopes are in
    /// `scope` or `scp`.
    #[must_use]
    pub fn keys(mut self, keys: KeyFile) -> Self {
        self.keys.push(keys);
        self
    }

    /// Accepts tokens that are signed with a key that an issuer publishes at this URL. May be repeated.
    ///
    /// If a fetch fails, the keys of the last fetch stay in use. Before the first successful fetch,
    /// tokens that no other key has signed end with UNAVAILABLE. A call whose token names an unknown
    /// key waits for a new fetch, unless the last one was just before.
    #[must_use]
    pub fn jwks_url(mut self, url: JwksUrl) -> Self {
        self.urls.push(url);
        self
    }

    /// Requires this `iss` of tokens; if it is repeated, one of these. Unless set, `iss` is not checked.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.claims.issuers.push(issuer.into());
        self
    }

    /// Requires this `aud` of tokens; if it is repeated, one of these. Unless set, a token that names an
    /// audience is refused, since it was issued for another service.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.claims.audiences.push(audience.into());
        self
    }

    /// The clock skew that is allowed to the issuer, in whole seconds: 30 unless set, at most a day.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.claims.leeway = leeway;
        self
    }

    /// The claim with the roles, as a list or as words in a text: `roles` unless set. Dots lead into
    /// nested claims, as in `realm_access.roles`, unless there is a claim of the whole name.
    #[must_use]
    pub fn roles_claim(mut self, name: impl Into<String>) -> Self {
        self.claims.roles = name.into();
        self
    }

    /// Refuses tokens whose `jti` is in this file, one a line. Also refuses tokens that could not be
    /// revoked: without a `jti`, or with one that contains white space or begins with `#`.
    ///
    /// In this file and in those of API keys and certificates, `#` at the start of a line or after
    /// white space begins a comment.
    #[must_use]
    pub fn revoked(mut self, file: impl Into<PathBuf>) -> Self {
        self.revoked = Some(file.into());
        self
    }

    /// Accepts API keys in `x-api-key`. A line of the file is
    /// `<SHA-256 of the key in hex> <name> [<role>,…]`. Keys have to be random: a correct guess is
    /// accepted, however many wrong ones came before.
    #[must_use]
    pub fn api_keys(mut self, file: impl Into<PathBuf>) -> Self {
        self.api_keys = Some(file.into());
        self
    }

    /// Accepts client certificates that TLS has accepted. A line of the file is `<name> [<role>,…]`. The
    /// name is a URI, DNS name or e-mail address of the certificate's alternative names, or the common
    /// name of its subject.
    #[must_use]
    pub fn certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.certificates = Some(file.into());
        self
    }

    /// Sets the permissions. Unless set, no method may be called.
    #[must_use]
    pub fn permissions(mut self, permissions: Permissions) -> Self {
        self.permissions = permissions;
        self
    }

    /// How many calls with invalid credentials an address may make a minute: 600 unless set, `None` is
    /// no limit. Calls above the limit end with RESOURCE_EXHAUSTED. New tokens and certificates from
    /// this address are no longer verified, while cached ones still pass. Of an IPv6 address the /64
    /// counts.
    #[must_use]
    pub fn failures_per_minute(mut self, most: Option<u32>) -> Self {
        self.failures.per_minute = most;
        self
    }

    /// Trusts the `x-forwarded-for` of this proxy. May be repeated. Otherwise all clients of a proxy have
    /// its address.
    #[must_use]
    pub fn trust_proxy(mut self, proxy: TrustedProxy) -> Self {
        self.failures.trust_proxy(proxy);
        self
    }

    /// How often the files are read: every second unless set. New contents take effect when two reads in
    /// a row have found the same, since a file may be read while it is being written.
    #[must_use]
    pub fn reload_every(mut self, interval: Duration) -> Self {
        self.reload = interval;
        self
    }

    /// Reads the files, fetches the keys and starts the threads that watch them. It waits for each
    /// issuer for at most 10 s.
    ///
    /// # Errors
    /// If a file or a setting cannot be used. Later, a file that is broken or has become empty only
    /// causes an error in the log, and its last usable contents stay in use.
    pub fn build(self) -> Result<Auth, AuthError> {
        crypto::install();
        if self.claims.leeway > MAX_LEEWAY {
            return Err(AuthError::from(Problem::LongLeeway));
        }
        let generation = Arc::new(AtomicU64::new(0));
        let tokens = self.tokens(&generation)?;
        let api_keys = open(self.api_keys, ApiKeys::parse)?;
        let certificates = open(self.certificates, Roles::parse)?
            .map(|roles| Certificates { roles, cache: Cache::new() });
        let state = Arc::new(State {
            authenticators: self.authenticators,
            tokens,
            api_keys,
            certificates,
            permissions: self.permissions,
            failures: self.failures.start(),
            generation,
        });
        watch(&state, self.reload)?;
        Ok(Auth { state })
    }

    fn tokens(&self, generation: &Arc<AtomicU64>) -> Result<Option<Tokens>, AuthError> {
        if self.keys.is_empty() && self.urls.is_empty() {
            return match &self.revoked {
                Some(_) => Err(AuthError::from(Problem::NoKeys)),
                None => Ok(None),
            };
        }
        let keys = self.keys.iter().cloned().map(KeyFile::open).collect::<Result<_, _>>()?;
        let revoked = open(self.revoked.clone(), Revoked::parse)?;
        let remotes = self.urls.iter().cloned().map(|url| Remote::start(url, generation.clone()));
        let remotes = remotes.collect::<Result<_, _>>()?;
        Ok(Some(Tokens {
            keys,
            remotes,
            revoked,
            claims: self.claims.clone(),
            cache: Cache::new(),
        }))
    }
}

fn open<T: Contents, E: Into<BoxError>>(
    path: Option<PathBuf>,
    parse: impl Fn(&[u8]) -> Result<T, E> + Send + Sync + 'static,
) -> Result<Option<Watched<T>>, AuthError> {
    path.map(|path| Watched::open(&path, parse)).transpose()
}

/// A setting of [`Auth`] that cannot be used. The message names the file and its problem, without
/// secrets.
#[derive(Debug)]
pub struct AuthError {
    file: Option<PathBuf>,
    problem: Problem,
}

#[derive(Debug)]
pub(super) enum Problem {
    LongLeeway,
    /// Revocations without keys.
    NoKeys,
    Algorithm(KeyError),
    Signing(jsonwebtoken::errors::Error),
    /// The contents of the file.
    Contents(BoxError),
    Io(io::Error),
    Thread(io::Error),
}

impl From<Problem> for AuthError {
    fn from(problem: Problem) -> Self {
        Self { file: None, problem }
    }
}

impl AuthError {
    pub(super) fn contents(path: &Path, problem: impl Into<BoxError>) -> Self {
        Self { file: Some(path.to_owned()), problem: Problem::Contents(problem.into()) }
    }

    pub(super) fn reading(path: &Path, error: io::Error) -> Self {
        Self { file: Some(path.to_owned()), problem: Problem::Io(error) }
    }

    pub(super) fn thread(error: io::Error) -> Self {
        Problem::Thread(error).into()
    }

    /// The file that cannot be used, if the problem is a file.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.file {
            write!(f, "{}: ", path.display())?;
        }
        match &self.problem {
            Problem::LongLeeway => f.write_str("a leeway of more than a day"),
            Problem::NoKeys => f.write_str("revocations without keys for tokens"),
            Problem::Algorithm(error) => error.fmt(f),
            Problem::Signing(error) => error.fmt(f),
            Problem::Contents(error) => error.fmt(f),
            Problem::Io(error) => error.fmt(f),
            Problem::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl Error for AuthError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.problem {
            Problem::LongLeeway | Problem::NoKeys => None,
            Problem::Algorithm(error) => Some(error),
            Problem::Signing(error) => Some(error),
            Problem::Contents(error) => Some(&**error),
            Problem::Io(error) | Problem::Thread(error) => Some(error),
        }
    }
}

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::api_key::ApiKeys;
use super::cache::Cache;
use super::certificate::{Certificates, Roles};
use super::claims::Claims;
use super::contents::Contents;
use super::failures::FailureLimit;
use super::file::Watched;
use super::jwt::Tokens;
use super::remote::Remote;
use super::state::{State, watch};
use super::table::Revoked;
use super::{Auth, JwksUrl, KeyFile, Permissions, crypto};
use crate::interceptors::rate_limit::TrustedProxy;

/// Clocks of machines that are kept by NTP differ by less.
const LEEWAY: Duration = Duration::from_secs(30);

/// A clock that is further off is broken; and times stay far from the ends of their numbers.
const MAX_LEEWAY: Duration = Duration::from_secs(24 * 3600);

/// A revocation holds after two reads, of which each costs some microseconds.
const RELOAD: Duration = Duration::from_secs(1);

/// Settings of [`Auth`].
#[derive(Debug, Clone)]
pub struct AuthBuilder {
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

    /// Accepts tokens (JWT, RFC 7519) in `authorization: Bearer` that are signed with one of these
    /// keys. May be repeated. A token that names a key (`kid`) is verified with keys of that name, and
    /// then with those that have none; one that names no key with the latter alone.
    ///
    /// A token has to have `exp` and `sub`; the latter is the principal's name. Scopes are those of
    /// `scope` or `scp`.
    #[must_use]
    pub fn keys(mut self, keys: KeyFile) -> Self {
        self.keys.push(keys);
        self
    }

    /// The same for keys that an issuer publishes. They are fetched as [`JwksUrl`] says; while that
    /// fails, those that were fetched before stay in force, and until the first have come, tokens that
    /// no other key has signed end with UNAVAILABLE. A call whose token names an unknown key waits
    /// until they are fetched anew, unless they have just been.
    #[must_use]
    pub fn jwks_url(mut self, url: JwksUrl) -> Self {
        self.urls.push(url);
        self
    }

    /// Asks tokens for this `iss`, or one of these if it is repeated. Without one nobody looks at it.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.claims.issuers.push(issuer.into());
        self
    }

    /// Asks tokens for this `aud`, or one of these if it is repeated. Without one, tokens that name
    /// any are refused: they are for somebody else.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.claims.audiences.push(audience.into());
        self
    }

    /// How far the issuer's clock may be off, in whole seconds: 30 unless set, and at most a day.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.claims.leeway = leeway;
        self
    }

    /// The claim with the roles, a list or words in a text: `roles` unless set. Dots lead to one inside
    /// of others, as in `realm_access.roles`, unless there is a claim of the whole name.
    #[must_use]
    pub fn roles_claim(mut self, name: impl Into<String>) -> Self {
        self.claims.roles = name.into();
        self
    }

    /// Refuses tokens whose `jti` is in this file, one a line, and those whose `jti` no line can
    /// hold: that have none, or one with white space in it, or with `#` for its first character.
    ///
    /// In this file and the next two a comment begins a line or follows white space, with `#`.
    #[must_use]
    pub fn revoked(mut self, file: impl Into<PathBuf>) -> Self {
        self.revoked = Some(file.into());
        self
    }

    /// Accepts API keys in `x-api-key`. A line of the file is
    /// `<SHA-256 of the key in hex> <name> [<role>,…]`. Keys have to be random: a guess that
    /// is right is let in however many were not.
    #[must_use]
    pub fn api_keys(mut self, file: impl Into<PathBuf>) -> Self {
        self.api_keys = Some(file.into());
        self
    }

    /// Accepts client certificates: all that TLS accepts. A line of the file is
    /// `<name> [<role>,…]`, where the name is a URI, DNS name or e-mail address of the certificate's
    /// alternative names, or its subject's common name.
    #[must_use]
    pub fn certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.certificates = Some(file.into());
        self
    }

    /// Says who may call what: nobody anything, unless set.
    #[must_use]
    pub fn permissions(mut self, permissions: Permissions) -> Self {
        self.permissions = permissions;
        self
    }

    /// How many calls with bad credentials an address may make a minute: 600 unless set, `None` is
    /// any number. More end with RESOURCE_EXHAUSTED, and tokens and certificates from there are no
    /// longer verified, but for those that were before. Of an IPv6 address the /64 counts.
    #[must_use]
    pub fn failures_per_minute(mut self, most: Option<u32>) -> Self {
        self.failures.per_minute = most;
        self
    }

    /// Believes this proxy, in its `x-forwarded-for`, from whose address it has a call. May be
    /// repeated. Without it all clients of a proxy have one address.
    #[must_use]
    pub fn trust_proxy(mut self, proxy: TrustedProxy) -> Self {
        self.failures.trust_proxy(proxy);
        self
    }

    /// How often the files are read: each second, unless set. What is new in one counts once two
    /// reads in a row have found the same: whoever writes a file may not be done with it.
    #[must_use]
    pub fn reload_every(mut self, interval: Duration) -> Self {
        self.reload = interval;
        self
    }

    /// Reads the files and fetches the keys, and starts the threads that watch them. It waits for
    /// issuers, but not for long.
    ///
    /// # Errors
    /// If a file or a setting cannot be used. Later a broken file, or one that has become empty, only
    /// makes a line of the log, and what it held before stays.
    pub fn build(self) -> Result<Auth, AuthError> {
        crypto::install();
        if self.claims.leeway > MAX_LEEWAY {
            return Err(AuthError::new("a leeway of more than a day".to_owned()));
        }
        let generation = Arc::new(AtomicU64::new(0));
        let tokens = self.tokens(&generation)?;
        let api_keys = open(self.api_keys, ApiKeys::parse)?;
        let certificates = open(self.certificates, Roles::parse)?
            .map(|roles| Certificates { roles, cache: Cache::new() });
        let state = Arc::new(State {
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
                Some(_) => Err(AuthError::new("revocations without keys for tokens".to_owned())),
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

fn open<T: Contents>(
    path: Option<PathBuf>,
    parse: impl Fn(&[u8]) -> Result<T, String> + Send + Sync + 'static,
) -> Result<Option<Watched<T>>, AuthError> {
    path.map(|path| Watched::open(&path, parse)).transpose()
}

/// Settings of [`Auth`] that cannot be used; the message says which file, and what is wrong with
/// it, without its secrets.
#[derive(Debug)]
pub struct AuthError {
    file: Option<PathBuf>,
    problem: String,
}

impl AuthError {
    pub(super) fn new(problem: String) -> Self {
        Self { file: None, problem }
    }

    pub(super) fn of_file(path: &Path, problem: impl fmt::Display) -> Self {
        Self { file: Some(path.to_owned()), problem: problem.to_string() }
    }

    /// The file that cannot be used, if it is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(path) => write!(f, "{}: {}", path.display(), self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

impl std::error::Error for AuthError {}

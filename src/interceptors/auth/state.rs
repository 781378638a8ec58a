use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use tracing::dispatcher;

use super::AuthError;
use super::api_key::ApiKeys;
use super::authenticator::{Authenticators, Refusal};
use super::certificate::Certificates;
use super::contents::Summary;
use super::failures::Failures;
use super::file::Watched;
use super::jwt::{TokenError, Tokens};
use super::permissions::Permissions;
use crate::interceptors::principal::Principal;
use crate::{Call, Status};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The state that calls share with the thread that watches the files.
#[derive(Debug)]
pub(super) struct State {
    pub(super) authenticators: Authenticators,
    pub(super) tokens: Option<Tokens>,
    pub(super) api_keys: Option<Watched<ApiKeys>>,
    pub(super) certificates: Option<Certificates>,
    pub(super) permissions: Permissions,
    /// `None` if failures are not limited.
    pub(super) failures: Option<Failures>,
    /// Counts the changes of files. A cached result of another generation does not count.
    pub(super) generation: Arc<AtomicU64>,
}

/// The reason why a call is not authenticated.
pub(super) enum Unauthenticated {
    Refused(Refusal),
    /// The token names an unknown key, which the issuer may have published since.
    UnknownKey(TokenError),
    /// The issuer of the token has not given any keys yet.
    NoKeysYet,
    /// Too many calls from the address had invalid credentials. The call ends with this status.
    TooMany(Status),
}

impl From<Refusal> for Unauthenticated {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<TokenError> for Unauthenticated {
    fn from(error: TokenError) -> Self {
        Self::invalid(error)
    }
}

impl Unauthenticated {
    /// Credentials that are invalid, with the reason for the log.
    fn invalid(error: impl Error) -> Self {
        Self::Refused(Refusal::Invalid(error.to_string()))
    }
}

impl State {
    pub(super) async fn authenticate(&self, call: &Call) -> Result<Principal, Unauthenticated> {
        let result = self.identify(call).await;
        let is_failure = matches!(
            result,
            Err(Unauthenticated::Refused(Refusal::Invalid(_)) | Unauthenticated::UnknownKey(_))
        );
        match &self.failures {
            Some(failures) if is_failure => match failures.count(call) {
                Some(status) => Err(Unauthenticated::TooMany(status)),
                None => result,
            },
            _ => result,
        }
    }

    /// Asks the application's authenticators first, then the built-in ones.
    async fn identify(&self, call: &Call) -> Result<Principal, Unauthenticated> {
        if !self.authenticators.is_empty() {
            // On the heap: it would enlarge the future of every call.
            match Box::pin(self.authenticators.authenticate(call)).await {
                Err(Refusal::Missing) => {}
                answer => return answer.map_err(Unauthenticated::Refused),
            }
        }
        let result = self.identify_now(call);
        if let (Err(Unauthenticated::UnknownKey(_)), Some(tokens)) = (&result, &self.tokens) {
            // On the heap, for the same reason.
            if Box::pin(tokens.fetch_new_keys()).await {
                return self.identify_now(call);
            }
        }
        result
    }

    fn identify_now(&self, call: &Call) -> Result<Principal, Unauthenticated> {
        let headers = call.metadata().as_headers();
        // Before the contents of the files are read: see `Cache::put`.
        let generation = self.generation.load(Ordering::Acquire);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if let (Some(tokens), Some(value)) = (&self.tokens, single(headers, &AUTHORIZATION)?) {
            let token = bearer(value)?;
            if let Some(principal) = tokens.cache.get(token.as_bytes(), now, generation) {
                return Ok(principal);
            }
            self.check_failures(call)?;
            tokens.verify(token, now, generation)
        } else if let (Some(keys), Some(key)) = (&self.api_keys, single(headers, &X_API_KEY)?) {
            // Verifying it costs no more than checking the failures of its address.
            keys.current().verify(key).map_err(Unauthenticated::invalid)
        } else if let (Some(certificates), [der, ..]) =
            (&self.certificates, call.peer().certificates())
        {
            if let Some(principal) = certificates.cache.get(der, now, generation) {
                return Ok(principal);
            }
            self.check_failures(call)?;
            certificates.verify(der, now, generation).map_err(Unauthenticated::invalid)
        } else {
            Err(Refusal::Missing.into())
        }
    }

    /// Refuses to verify credentials that are not cached, if the address has too many failures.
    fn check_failures(&self, call: &Call) -> Result<(), Unauthenticated> {
        let excess = self.failures.as_ref().and_then(|failures| failures.excess(call));
        excess.map_or(Ok(()), |answer| Err(Unauthenticated::TooMany(answer)))
    }

    /// Each file with the summary of its contents.
    pub(super) fn files(&self) -> Vec<(&Path, Summary)> {
        let tokens = self.tokens.iter();
        let mut keys: Vec<_> =
            tokens.clone().flat_map(|it| &it.keys).map(Watched::summary).collect();
        keys.extend(tokens.clone().flat_map(|it| &it.remotes).filter_map(|it| it.summary()));
        let revoked = tokens.filter_map(|it| it.revoked.as_ref()).map(Watched::summary);
        let api_keys = self.api_keys.iter().map(Watched::summary);
        let certificates = self.certificates.iter().map(|it| it.roles.summary());
        keys.into_iter().chain(revoked).chain(api_keys).chain(certificates).collect()
    }

    pub(super) fn refresh(&self) {
        let tokens = self.tokens.as_ref().is_some_and(Tokens::refresh);
        let api_keys = self.api_keys.as_ref().is_some_and(Watched::refresh);
        let certificates = self.certificates.as_ref().is_some_and(|it| it.roles.refresh());
        if tokens | api_keys | certificates {
            // After the new contents are in place, so that later verifications use them.
            self.generation.fetch_add(1, Ordering::Release);
        }
    }
}

/// The value of a header. Several values, or one that is not text, are an error: a proxy might read
/// another of them than this server, and authenticate another client.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Refusal::Invalid(format!("{name} is not text"))),
        },
        (Some(_), Some(_)) => Err(Refusal::Invalid(format!("{name} came more than once"))),
    }
}

/// RFC 9110, 11.4: the scheme in any case, at least one space, the token.
fn bearer(value: &str) -> Result<&str, Refusal> {
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    match token.trim_start_matches(' ') {
        token if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() => Ok(token),
        _ => Err(Refusal::Invalid("authorization is not of the scheme Bearer".to_owned())),
    }
}

/// Watches the files until the state is dropped. It has a thread of its own, since reading may block.
/// The caller may have no runtime, or one that ends sooner.
pub(super) fn watch(state: &Arc<State>, every: Duration) -> Result<(), AuthError> {
    let state = Arc::downgrade(state);
    let refresh = move || {
        while let Some(state) = Weak::upgrade(&state) {
            state.refresh();
            drop(state);
            thread::sleep(every);
        }
    };
    // The thread logs to the subscriber of the caller.
    let log = dispatcher::get_default(Clone::clone);
    let spawned = thread::Builder::new()
        .name("auth-files".to_owned())
        .spawn(move || dispatcher::with_default(&log, refresh));
    match spawned {
        Ok(_) => Ok(()),
        Err(error) => Err(AuthError::thread(error)),
    }
}

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use tracing::dispatcher;

use super::AuthError;
use super::api_key::ApiKeys;
use super::certificate::Certificates;
use super::contents::Summary;
use super::failures::Failures;
use super::file::Watched;
use super::jwt::Tokens;
use super::permissions::Permissions;
use super::principal::Principal;
use crate::{Call, Status};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What calls and the thread that watches the files share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) tokens: Option<Tokens>,
    pub(super) api_keys: Option<Watched<ApiKeys>>,
    pub(super) certificates: Option<Certificates>,
    pub(super) permissions: Permissions,
    /// `None` if nobody counts them.
    pub(super) failures: Option<Failures>,
    /// Counts the changes of files: what was verified before one is verified again.
    pub(super) generation: Arc<AtomicU64>,
}

/// Why a client is not known.
pub(super) enum Refusal {
    Missing,
    /// The reason is for the log.
    Invalid(String),
    /// Its token names a key that is unknown, and that the issuer may have by now.
    UnknownKey(String),
    /// The issuer of its token has not given any keys yet.
    Unready,
    /// There were too many of these from its address; what to answer.
    TooMany(Status),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Invalid(why)
    }
}

impl State {
    pub(super) async fn authenticate(&self, call: &Call) -> Result<Principal, Refusal> {
        let mut known = self.identify(call);
        if let (Err(Refusal::UnknownKey(_)), Some(tokens)) = (&known, &self.tokens) {
            // On the heap: calls that wait for nothing would have room for it as well.
            if Box::pin(tokens.ask()).await {
                known = self.identify(call);
            }
        }
        let (Err(Refusal::Invalid(_) | Refusal::UnknownKey(_)), Some(failures)) =
            (&known, &self.failures)
        else {
            return known;
        };
        failures.count(call).map_or(known, |answer| Err(Refusal::TooMany(answer)))
    }

    fn identify(&self, call: &Call) -> Result<Principal, Refusal> {
        let headers = call.metadata().as_headers();
        // Before anything is read of the files: see `Cache::put`.
        let generation = self.generation.load(Ordering::Acquire);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if let (Some(tokens), Some(value)) = (&self.tokens, single(headers, &AUTHORIZATION)?) {
            let token = bearer(value).ok_or_else(|| {
                Refusal::Invalid("authorization is not of the scheme Bearer".to_owned())
            })?;
            if let Some(principal) = tokens.cache.get(token.as_bytes(), now, generation) {
                return Ok(principal);
            }
            self.afford(call)?;
            tokens.verify(token, now, generation)
        } else if let (Some(keys), Some(key)) = (&self.api_keys, single(headers, &X_API_KEY)?) {
            // Whether it is known costs no more to find out than whether it may be asked.
            Ok(keys.current().verify(key)?)
        } else if let (Some(certificates), [der, ..]) =
            (&self.certificates, call.peer().certificates())
        {
            if let Some(principal) = certificates.cache.get(der, now, generation) {
                return Ok(principal);
            }
            self.afford(call)?;
            Ok(certificates.verify(der, now, generation)?)
        } else {
            Err(Refusal::Missing)
        }
    }

    /// Whether credentials that are not known yet may be verified.
    fn afford(&self, call: &Call) -> Result<(), Refusal> {
        let excess = self.failures.as_ref().and_then(|failures| failures.excess(call));
        excess.map_or(Ok(()), |answer| Err(Refusal::TooMany(answer)))
    }

    /// Each file, and what it was understood to hold.
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
            // After the new contents are in place: what is verified from now on counts.
            self.generation.fetch_add(1, Ordering::Release);
        }
    }
}

/// The value of a header; an error if there are several, or it is no text: whoever reads another of
/// them than we do would take the call for somebody else's.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| Refusal::Invalid(format!("{name} is no text")));
            text.map(Some)
        }
        (Some(_), Some(_)) => Err(Refusal::Invalid(format!("{name} came more than once"))),
    }
}

/// RFC 9110, 11.4: the scheme in any case, at least one space, the token.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Looks at the files for as long as somebody has the state. A thread of its own: reading may block,
/// and there may be no runtime, or one that ends sooner.
pub(super) fn watch(state: &Arc<State>, every: Duration) -> Result<(), AuthError> {
    let state = Arc::downgrade(state);
    let look = move || {
        while let Some(state) = Weak::upgrade(&state) {
            state.refresh();
            drop(state);
            thread::sleep(every);
        }
    };
    // What a file is found to be goes into the log of whoever built this.
    let log = dispatcher::get_default(Clone::clone);
    let spawned = thread::Builder::new()
        .name("auth-files".to_owned())
        .spawn(move || dispatcher::with_default(&log, look));
    spawned.map(drop).map_err(|error| AuthError::new(format!("cannot start a thread: {error}")))
}

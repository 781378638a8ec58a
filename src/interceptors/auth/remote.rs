//! Keys that an issuer publishes at a URL.
//!
//! ```text
//!             ,------ as often as it is set, or sooner by cache-control ------.
//!             v                                                               |
//!   fetch ----+-- a usable set, with a change: in force -----------------> wait
//!             '-- anything else: what was there before stays in force ------'  |
//!             ^                                                               |
//!             '------ a token with an unknown kid, not too often ------------'
//! ```

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::Duration;
use std::{net, thread};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, AGE, CACHE_CONTROL, HeaderMap, LOCATION};
use hyper::{Request, StatusCode};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::dispatcher;

use super::AuthError;
use super::contents::{Contents, Summary};
use super::file::log_remarks;
use super::jwk::{self, JwksError};
use super::keys::Keys;
use crate::ClientTls;
use crate::http_client::{BoxError, Url};

/// A withdrawn key is trusted for at most this time.
const REFRESH: Duration = Duration::from_secs(5 * 60);

/// The least time between two fetches. It protects the issuer from tokens with unknown kids, which any
/// client can send.
const REST: Duration = Duration::from_secs(10);

/// The time limit of a fetch, from connecting to the end of the response. A call whose token names an
/// unknown key waits for it.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Sets of large issuers have some 10 KB.
const MAX_ANSWER: usize = 256 * 1024;

/// The URL at which an issuer publishes its keys, such as `https://accounts.example.com/jwks.json`. It
/// has to be `https`, except for this machine, and needs a trust store: see [`trust`](Self::trust).
#[derive(Debug, Clone)]
pub struct JwksUrl {
    url: Url,
    name: PathBuf,
    every: Duration,
    rest: Duration,
}

/// A text that is not a [`JwksUrl`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidJwksUrl(());

impl JwksUrl {
    /// Sets the trust store for a URL of `https`. Without one no certificate is trusted.
    #[must_use]
    pub fn trust(self, tls: ClientTls) -> Self {
        Self { url: self.url.trust(tls), ..self }
    }

    /// Whether it is a URL of `https`.
    pub fn is_tls(&self) -> bool {
        self.url.is_tls()
    }

    /// How often the keys are fetched: every 5 minutes unless set. They are fetched sooner if the
    /// `cache-control` of the issuer asks for it, or if a token names an unknown key.
    #[must_use]
    pub fn refresh_every(self, time: Duration) -> Self {
        Self { every: time, ..self }
    }

    /// The least time between two fetches: 10 s unless set.
    #[must_use]
    pub fn rest_between(self, time: Duration) -> Self {
        Self { rest: time, ..self }
    }

    /// The URL as it was given.
    pub fn as_path(&self) -> &Path {
        &self.name
    }

    /// Fetches the set, and the time that it is fresh if the issuer gave one.
    async fn fetch(&self) -> Result<(Bytes, Option<Duration>), FetchError> {
        let request =
            Request::get("/").header(ACCEPT, "application/jwk-set+json, application/json");
        let request = request.body(Full::default()).expect("its parts are known to be valid");
        let port = if self.is_tls() { 443 } else { 80 };
        let answer = timeout(TIME_LIMIT, self.url.exchange(request, port, MAX_ANSWER)).await;
        let answer = answer.map_err(|_| FetchError::NoAnswer)?.map_err(FetchError::Exchange)?;
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK {
            let location = head.headers.get(LOCATION).and_then(|place| place.to_str().ok());
            return Err(FetchError::Status(head.status, location.map(str::to_owned)));
        }
        Ok((body, freshness(&head.headers)))
    }
}

impl FromStr for JwksUrl {
    type Err = InvalidJwksUrl;

    fn from_str(text: &str) -> Result<Self, InvalidJwksUrl> {
        let url = Url::parse(text).ok_or(InvalidJwksUrl(()))?;
        // Without TLS, an attacker on the network path could insert a key.
        let here = url.host() == "localhost"
            || url.host().parse::<net::IpAddr>().is_ok_and(|address| address.is_loopback());
        match url.is_tls() || here {
            true => Ok(Self { url, name: text.into(), every: REFRESH, rest: REST }),
            false => Err(InvalidJwksUrl(())),
        }
    }
}

impl fmt::Display for InvalidJwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the URL of a JWKS, https://HOST[:PORT]/PATH, without user and fragment")
    }
}

impl Error for InvalidJwksUrl {}

/// The reason why keys could not be fetched.
#[derive(Debug)]
enum FetchError {
    /// No answer in time.
    NoAnswer,
    Exchange(BoxError),
    /// A status other than 200, with the URL of a redirection.
    Status(StatusCode, Option<String>),
    Jwks(JwksError),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer => write!(f, "no answer within {TIME_LIMIT:?}"),
            Self::Exchange(error) => error.fmt(f),
            Self::Status(status, None) => write!(f, "the answer is {status}"),
            Self::Status(status, Some(url)) => write!(f, "the answer is {status}, to {url}"),
            Self::Jwks(error) => error.fmt(f),
        }
    }
}

impl Error for FetchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Exchange(error) => Some(&**error),
            Self::Jwks(error) => Some(error),
            Self::NoAnswer | Self::Status(..) => None,
        }
    }
}

/// The time that a response is fresh (RFC 9111, 5.2.2), if it has one.
fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut fresh = None;
    for directive in values.flat_map(|value| value.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => fresh = value.trim().trim_matches('"').parse().ok(),
            _ => {}
        }
    }
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.parse().ok()).unwrap_or(0);
    fresh.map(|seconds: u64| Duration::from_secs(seconds.saturating_sub(age)))
}

/// The keys of an issuer. A thread of its own fetches them until this is dropped.
pub(super) struct Remote {
    url: JwksUrl,
    state: Mutex<Fetched>,
    /// Counts the completed fetches.
    fetches: watch::Sender<u64>,
    asked: Arc<Notify>,
    /// The generation of the state.
    generation: Arc<AtomicU64>,
}

#[derive(Default)]
struct Fetched {
    /// `None` before the first successful fetch.
    keys: Option<Arc<Keys>>,
    bytes: Bytes,
    /// The reason if the last fetch failed.
    problem: Option<String>,
    at: Option<Instant>,
}

impl Remote {
    /// Starts to fetch, and waits for the first result. A failure is no error: it is retried.
    pub(super) fn start(url: JwksUrl, generation: Arc<AtomicU64>) -> Result<Arc<Self>, AuthError> {
        let remote = Arc::new(Self {
            url,
            state: Mutex::default(),
            fetches: watch::Sender::new(0),
            asked: Arc::default(),
            generation,
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(AuthError::thread)?;
        let (first, fetched) = mpsc::sync_channel(1);
        let keeper = keep(remote.url.clone(), remote.asked.clone(), Arc::downgrade(&remote), first);
        let log = dispatcher::get_default(Clone::clone);
        thread::Builder::new()
            .name("auth-jwks".to_owned())
            .spawn(move || {
                dispatcher::with_default(&log, || runtime.block_on(keeper));
                // Dropping it would wait for a name lookup.
                runtime.shutdown_background();
            })
            .map_err(AuthError::thread)?;
        let _ = fetched.recv_timeout(2 * TIME_LIMIT);
        Ok(remote)
    }

    /// `None` before the first successful fetch.
    pub(super) fn current(&self) -> Option<Arc<Keys>> {
        self.lock().keys.clone()
    }

    pub(super) fn name(&self) -> &Path {
        self.url.as_path()
    }

    /// The summary of the keys, once they were fetched.
    pub(super) fn summary(&self) -> Option<(&Path, Summary)> {
        Some((self.name(), self.current()?.summary()))
    }

    /// The reason if the last fetch failed.
    pub(super) fn problem(&self) -> Option<String> {
        self.lock().problem.clone()
    }

    /// Fetches the keys again, and returns whether that was done. It is not done if the last fetch was
    /// just before, or if it takes too long.
    pub(super) async fn fetch_now(&self) -> bool {
        let mut fetches = self.fetches.subscribe();
        if !self.has_rested() {
            return false;
        }
        self.asked.notify_one();
        timeout(TIME_LIMIT, fetches.changed()).await.is_ok()
    }

    fn has_rested(&self) -> bool {
        self.lock().at.is_none_or(|at| at.elapsed() >= self.url.rest)
    }

    /// Uses the result of a fetch, and returns the time until the next one.
    fn take(&self, fetched: Result<(Bytes, Option<Duration>), FetchError>) -> Duration {
        let (every, rest) = (self.url.every.max(self.url.rest), self.url.rest);
        let mut state = self.lock();
        let (used, fresh) = match fetched {
            Ok((bytes, fresh)) => (self.replace(&mut state, bytes), fresh),
            Err(problem) => (Err(problem), Some(Duration::ZERO)),
        };
        let url = self.name().display();
        match used.map_err(|error| error.to_string()) {
            Ok(()) if state.problem.take().is_some() => {
                tracing::info!(target: "balafon::auth", %url, "can be fetched again");
            }
            Ok(()) => {}
            Err(problem) if state.problem.as_ref() == Some(&problem) => {}
            Err(problem) => {
                let error = &problem;
                tracing::error!(target: "balafon::auth", %url, error, "cannot be fetched; what it held before stays in force");
                state.problem = Some(problem);
            }
        }
        state.at = Some(Instant::now());
        drop(state);
        self.fetches.send_modify(|count| *count += 1);
        fresh.map_or(every, |fresh| fresh.clamp(rest, every))
    }

    fn replace(&self, state: &mut Fetched, bytes: Bytes) -> Result<(), FetchError> {
        if state.keys.is_some() && state.bytes == bytes {
            return Ok(());
        }
        let keys = jwk::set(&bytes).map_err(FetchError::Jwks)?;
        let (url, summary) = (self.name().display(), keys.summary());
        tracing::info!(target: "balafon::auth", %url, holds = summary.count(), "fetched");
        log_remarks(&url, &summary);
        (state.keys, state.bytes) = (Some(Arc::new(keys)), bytes);
        // After the new contents are in place. Readers see them when the lock is released.
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Fetched> {
        // The state is consistent after each step, so a poisoned lock is usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches the keys until they are dropped.
async fn keep(url: JwksUrl, asked: Arc<Notify>, remote: Weak<Remote>, first: mpsc::SyncSender<()>) {
    loop {
        let fetched = url.fetch().await;
        let Some(alive) = remote.upgrade() else { return };
        let next = Instant::now() + alive.take(fetched);
        drop(alive);
        // Only the first result is waited for.
        let _ = first.try_send(());
        loop {
            tokio::select! {
                () = sleep_until(next) => break,
                () = asked.notified() => match remote.upgrade() {
                    None => return,
                    // The request may have come during the last fetch.
                    Some(alive) if alive.has_rested() => break,
                    Some(_) => {}
                },
            }
        }
    }
}

/// Ends the thread.
impl Drop for Remote {
    fn drop(&mut self) {
        self.asked.notify_one();
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.name()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn jwks_url_is_https_or_local() {
        for text in ["https://a/b", "https://a:1/b?c=d", "http://localhost:1/b", "http://[::1]/b"] {
            assert!(text.parse::<JwksUrl>().is_ok(), "{text}");
        }
        for text in ["http://a/b", "https://me@a/b", "ftp://a", "https://", "https://a/#b", "a", ""]
        {
            assert!(text.parse::<JwksUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn jwks_cache_control_sets_freshness() {
        let fresh = |values: &[&str], age: Option<&str>| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| {
                headers.append(CACHE_CONTROL, value.parse().unwrap());
            });
            age.map(|age| headers.insert(AGE, age.parse().unwrap()));
            freshness(&headers).map(|time| time.as_secs())
        };
        assert_eq!(fresh(&[], None), None);
        assert_eq!(fresh(&["public"], Some("7")), None);
        assert_eq!(fresh(&["public, Max-Age=60, must-revalidate"], None), Some(60));
        assert_eq!(fresh(&["public", "max-age=\"60\""], Some("7")), Some(53));
        assert_eq!(fresh(&["max-age=5"], Some("7")), Some(0));
        assert_eq!(fresh(&["max-age=60, no-cache"], None), Some(0));
        assert_eq!(fresh(&["max-age=never"], None), None);
    }
}

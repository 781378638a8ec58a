use std::error::Error;
use std::fmt;
use std::sync::Arc;

use futures_util::future::join_all;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::cache::{Cache, Validity};
use super::claims::{ClaimError, Claims, words};
use super::file::Watched;
use super::jws::{Jws, JwsError};
use super::keys::{Key, Keys};
use super::remote::Remote;
use super::state::Unauthenticated;
use super::table::Revoked;
use crate::interceptors::principal::{Principal, PrincipalKind};

/// Longer tokens are refused without parsing. The largest tokens of identity providers, with hundreds
/// of groups, have some 5 KB. A header list may have 16 KiB.
pub(super) const MAX_TOKEN_LEN: usize = 8 * 1024;

/// The characters of a token that may be logged.
const MAX_SHOWN: usize = 64;

/// Verifies tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) keys: Vec<Watched<Keys>>,
    pub(super) remotes: Vec<Arc<Remote>>,
    pub(super) revoked: Option<Watched<Revoked>>,
    pub(super) claims: Claims,
    pub(super) cache: Cache,
}

impl Tokens {
    /// The principal of a token, which is then cached.
    pub(super) fn verify(
        &self,
        token: &str,
        now: u64,
        generation: u64,
    ) -> Result<Principal, Unauthenticated> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::TooLong(token.len()).into());
        }
        let claims = self.signed(token)?;
        let until = self.claims.check(&claims, now).map_err(TokenError::Claims)?;
        self.check_revocation(&claims)?;
        let principal = self.principal(&claims)?;
        let valid = Validity { until, generation };
        self.cache.put(token.as_bytes(), principal.clone(), now, valid);
        Ok(principal)
    }

    /// Reads the files, and returns whether any has new contents.
    pub(super) fn refresh(&self) -> bool {
        let mut is_new = self.revoked.as_ref().is_some_and(Watched::refresh);
        for keys in &self.keys {
            is_new |= keys.refresh();
        }
        is_new
    }

    /// The claims of a token that one of the keys has signed.
    fn signed(&self, token: &str) -> Result<Map<String, Value>, Unauthenticated> {
        let token = Jws::parse(token).map_err(TokenError::Unreadable)?;
        let (sets, all_there) = self.sets();
        let all = || sets.iter().flat_map(|set| &set.keys);
        // RFC 7515, 4.1.4: `kid` is a hint. It only chooses among the keys, and never the algorithm of a
        // key. Keys without a name are candidates as well.
        let named = all().filter(|key| key.kid.is_some() && key.kid == token.kid);
        let nameless = all().filter(|key| key.kid.is_none());
        let candidates: Vec<&Key> = named.chain(nameless).collect();
        if candidates.iter().any(|key| token.is_signed_by(key)) {
            return Ok(token.claims().map_err(TokenError::Unreadable)?);
        }
        let is_for_it = candidates.iter().any(|key| key.algorithm == token.algorithm);
        let why = match &token.kid {
            Some(kid) if candidates.is_empty() => TokenError::UnknownKid(cut(kid)),
            None if candidates.is_empty() => TokenError::NoKid,
            _ if is_for_it => TokenError::Signature,
            _ => TokenError::Algorithm(token.algorithm),
        };
        let is_named = candidates.iter().any(|key| key.kid.is_some());
        Err(match (all_there, &token.kid) {
            (false, _) => Unauthenticated::NoKeysYet,
            (true, Some(_)) if !is_named => Unauthenticated::UnknownKey(why),
            (true, _) => why.into(),
        })
    }

    /// All current keys, and whether each issuer has given its own.
    fn sets(&self) -> (Vec<Arc<Keys>>, bool) {
        let sets = self.keys.iter().map(Watched::current);
        let sets = sets.chain(self.remotes.iter().filter_map(|remote| remote.current()));
        let sets: Vec<_> = sets.collect();
        let all_there = sets.len() == self.keys.len() + self.remotes.len();
        (sets, all_there)
    }

    /// Fetches the keys of all issuers again. Returns whether any has answered.
    pub(super) async fn fetch_new_keys(&self) -> bool {
        join_all(self.remotes.iter().map(|remote| remote.fetch_now())).await.contains(&true)
    }

    fn check_revocation(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        let Some(revoked) = &self.revoked else { return Ok(()) };
        match claims.get("jti").and_then(Value::as_str) {
            Some(jti) if revoked.current().contains(jti) => Err(TokenError::Revoked(cut(jti))),
            Some(jti) if !Revoked::can_hold(jti) => Err(TokenError::Irrevocable(cut(jti))),
            Some(_) => Ok(()),
            None => Err(TokenError::NoId),
        }
    }

    fn principal(&self, claims: &Map<String, Value>) -> Result<Principal, TokenError> {
        let subject = claims.get("sub").and_then(Value::as_str).filter(|name| !name.is_empty());
        let roles = self.claims.roles(claims);
        // RFC 8693, 4.2; some issuers write `scp`.
        let scopes = words(claims.get("scope").or_else(|| claims.get("scp")));
        match subject {
            Some(name) => Ok(Principal::with(name, PrincipalKind::Token, roles, scopes)),
            None => Err(TokenError::NoSubject),
        }
    }
}

/// The reason why a token is refused. Texts of the token are shortened.
#[derive(Debug)]
pub(super) enum TokenError {
    /// It has so many bytes.
    TooLong(usize),
    Unreadable(JwsError),
    UnknownKid(String),
    /// It has no `kid`, and all keys have one.
    NoKid,
    Signature,
    /// None of its keys is for this algorithm.
    Algorithm(Algorithm),
    Claims(ClaimError),
    Revoked(String),
    /// No line can revoke this `jti`.
    Irrevocable(String),
    NoId,
    NoSubject,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => {
                write!(f, "a token of {len} bytes: wanted at most {MAX_TOKEN_LEN}")
            }
            Self::Unreadable(error) => f.write_str(&cut(&error.to_string())),
            Self::UnknownKid(kid) => write!(f, "unknown kid {kid:?}"),
            Self::NoKid => f.write_str("no kid, and all keys have one"),
            Self::Signature => f.write_str("InvalidSignature: none of its keys has signed it"),
            Self::Algorithm(algorithm) => {
                write!(f, "InvalidAlgorithm: none of its keys is for {algorithm:?}")
            }
            Self::Claims(error) => error.fmt(f),
            Self::Revoked(jti) => write!(f, "revoked: jti {jti:?}"),
            Self::Irrevocable(jti) => write!(f, "no line can revoke the jti {jti:?}"),
            Self::NoId => f.write_str("no jti, so that it could not be revoked"),
            Self::NoSubject => f.write_str("no sub"),
        }
    }
}

impl Error for TokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable(error) => Some(error),
            Self::Claims(error) => Some(error),
            _ => None,
        }
    }
}

/// The text, shortened for the log.
fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

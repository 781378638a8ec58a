use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Map, Value};

use super::cache::{Cache, Validity};
use super::claims::{Claims, words};
use super::file::Watched;
use super::jws::Jws;
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
    /// The principal of a token, which is then cached. The reason of a failure is for the log.
    pub(super) fn verify(
        &self,
        token: &str,
        now: u64,
        generation: u64,
    ) -> Result<Principal, Unauthenticated> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(format!("a token of {} bytes", token.len()).into());
        }
        let claims = self.signed(token)?;
        let until = self.claims.check(&claims, now)?;
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
        let token = Jws::parse(token).map_err(|problem| cut(&problem))?;
        let (sets, all_there) = self.sets();
        let all = || sets.iter().flat_map(|set| &set.keys);
        // RFC 7515, 4.1.4: `kid` is a hint. It only chooses among the keys, and never the algorithm of a
        // key. Keys without a name are candidates as well.
        let named = all().filter(|key| key.kid.is_some() && key.kid == token.kid);
        let nameless = all().filter(|key| key.kid.is_none());
        let candidates: Vec<&Key> = named.chain(nameless).collect();
        if candidates.iter().any(|key| token.is_signed_by(key)) {
            return Ok(token.claims()?);
        }
        let is_for_it = candidates.iter().any(|key| key.algorithm == token.algorithm);
        let why = match &token.kid {
            Some(kid) if candidates.is_empty() => format!("unknown kid {:?}", cut(kid)),
            None if candidates.is_empty() => "no kid, and all keys have one".to_owned(),
            _ if is_for_it => "InvalidSignature: none of its keys has signed it".to_owned(),
            _ => format!("InvalidAlgorithm: none of its keys is for {:?}", token.algorithm),
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

    fn check_revocation(&self, claims: &Map<String, Value>) -> Result<(), String> {
        let Some(revoked) = &self.revoked else { return Ok(()) };
        match claims.get("jti").and_then(Value::as_str) {
            Some(jti) if revoked.current().contains(jti) => {
                Err(format!("revoked: jti {:?}", cut(jti)))
            }
            Some(jti) if !Revoked::can_hold(jti) => {
                Err(format!("no line can revoke the jti {:?}", cut(jti)))
            }
            Some(_) => Ok(()),
            None => Err("no jti, so that it could not be revoked".to_owned()),
        }
    }

    fn principal(&self, claims: &Map<String, Value>) -> Result<Principal, String> {
        let subject = claims.get("sub").and_then(Value::as_str).filter(|name| !name.is_empty());
        let roles = self.claims.roles(claims);
        // RFC 8693, 4.2; some issuers write `scp`.
        let scopes = words(claims.get("scope").or_else(|| claims.get("scp")));
        match subject {
            Some(name) => Ok(Principal::with(name, PrincipalKind::Token, roles, scopes)),
            None => Err("no sub".to_owned()),
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

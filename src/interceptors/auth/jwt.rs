use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::cache::{Cache, Validity};
use super::file::Watched;
use super::keys::{Key, Keys};
use super::principal::{Principal, PrincipalKind};
use super::table::Revoked;

/// Longer tokens are refused unread. The largest that identity providers issue, with hundreds of
/// groups, have some 5 KB; a header list may have 16 KiB.
pub(super) const MAX_TOKEN_LEN: usize = 8 * 1024;

/// What a token's own text may add to a line of the log.
const MAX_SHOWN: usize = 64;

/// What is asked of a token besides its signature.
#[derive(Debug, Clone)]
pub(super) struct Claims {
    pub(super) issuers: Vec<String>,
    pub(super) audiences: Vec<String>,
    pub(super) leeway: Duration,
    /// The claim that holds the roles.
    pub(super) roles: String,
}

/// Verifies tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) keys: Vec<Watched<Keys>>,
    pub(super) revoked: Option<Watched<Revoked>>,
    pub(super) claims: Claims,
    pub(super) cache: Cache,
}

impl Tokens {
    /// Who a token stands for that is not in the cache, from now on it is; or why it is not good, for
    /// the operator to read.
    pub(super) fn verify(
        &self,
        token: &str,
        now: u64,
        generation: u64,
    ) -> Result<Principal, String> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(format!("a token of {} bytes", token.len()));
        }
        let claims = self.claims_of(token)?;
        self.check_revocation(&claims)?;
        let principal = self.principal(&claims)?;
        let until = expiry(&claims)?.saturating_add(self.claims.leeway.as_secs());
        let valid = Validity { until, generation };
        self.cache.put(token.as_bytes(), principal.clone(), now, valid);
        Ok(principal)
    }

    /// Looks at the files, and tells whether anything is new.
    pub(super) fn refresh(&self) -> bool {
        let keys = self.keys.iter().map(Watched::refresh).fold(false, |any, new| any | new);
        self.revoked.as_ref().is_some_and(Watched::refresh) | keys
    }

    /// The claims, if the signature and the registered ones hold.
    fn claims_of(&self, token: &str) -> Result<Map<String, Value>, String> {
        let header = decode_header(token).map_err(|error| format!("no header: {}", cut(&error)))?;
        if header.crit.is_some() {
            // RFC 7515, 4.1.11: we understand no extension.
            return Err("an extension that has to be understood (crit)".to_owned());
        }
        let sets: Vec<Arc<Keys>> = self.keys.iter().map(Watched::current).collect();
        let all = || sets.iter().flat_map(|set| &set.0);
        // What the token says only chooses among the keys; what to do with one is the key's own.
        let mut candidates = all().filter(|key| key.kid == header.kid).peekable();
        if candidates.peek().is_none() {
            return Err(match &header.kid {
                Some(kid) => format!("unknown kid {:?}", cut(kid)),
                None => "no kid, and all keys have one".to_owned(),
            });
        }
        let mut refused = String::new();
        for key in candidates {
            let validation = self.claims.validation(key);
            match decode::<Map<String, Value>>(token, &key.key, &validation) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => refused = cut(&error),
            }
        }
        Err(refused)
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
        let roles = words(claims.get(&self.claims.roles));
        // RFC 8693, 4.2; some issuers write `scp`.
        let scopes = words(claims.get("scope").or_else(|| claims.get("scp")));
        match subject {
            Some(name) => Ok(Principal::with(name, PrincipalKind::Token, roles, scopes)),
            None => Err("no sub".to_owned()),
        }
    }
}

impl Claims {
    fn validation(&self, key: &Key) -> Validation {
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        if !self.issuers.is_empty() {
            validation.set_issuer(&self.issuers);
            required.push("iss");
        }
        // RFC 7519, 4.1.3: without an audience of our own, a token that names one is not for us.
        if !self.audiences.is_empty() {
            validation.set_audience(&self.audiences);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// In seconds since 1970; a NumericDate may have a fraction (RFC 7519, 2).
fn expiry(claims: &Map<String, Value>) -> Result<u64, String> {
    let exp = claims.get("exp");
    let whole = exp.and_then(Value::as_u64);
    whole.or_else(|| exp?.as_f64().map(|exp| exp as u64)).ok_or_else(|| "no exp".to_owned())
}

/// A list of texts, or one text of words.
fn words(claim: Option<&Value>) -> Vec<Box<str>> {
    match claim {
        Some(Value::String(text)) => text.split_whitespace().map(Box::from).collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(Box::from).collect(),
        _ => Vec::new(),
    }
}

/// The text, cut where it could fill the log.
fn cut(text: &(impl ToString + ?Sized)) -> String {
    let text = text.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

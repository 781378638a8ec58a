use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

/// The requirements for the claims of a token.
#[derive(Debug, Clone)]
pub(super) struct Claims {
    pub(super) issuers: Vec<String>,
    pub(super) audiences: Vec<String>,
    pub(super) leeway: Duration,
    /// The claim with the roles; dots lead into nested claims.
    pub(super) roles: String,
}

impl Claims {
    /// Checks the registered claims (RFC 7519, 4.1) at `now`, in seconds since 1970. Returns the last
    /// second at which they are valid.
    pub(super) fn check(&self, claims: &Map<String, Value>, now: u64) -> Result<u64, ClaimError> {
        let leeway = self.leeway.as_secs();
        let until =
            seconds(claims, "exp")?.ok_or(ClaimError::Missing("exp"))?.saturating_add(leeway);
        if until < now {
            return Err(ClaimError::Expired);
        }
        if seconds(claims, "nbf")?.is_some_and(|from| from > now.saturating_add(leeway)) {
            return Err(ClaimError::NotYetValid);
        }
        if !self.issuers.is_empty() && !has_any(claims, "iss", &self.issuers)? {
            return Err(ClaimError::Issuer);
        }
        // RFC 7519, 4.1.3: if no audience is configured, a token with one is for another service.
        let names_one = claims.get("aud").is_some_and(|audience| !audience.is_null());
        let is_for_us = match self.audiences.is_empty() {
            true => !names_one,
            false => has_any(claims, "aud", &self.audiences)?,
        };
        if !is_for_us {
            return Err(ClaimError::Audience);
        }
        Ok(until)
    }

    pub(super) fn roles(&self, claims: &Map<String, Value>) -> Vec<Box<str>> {
        words(nested(claims, &self.roles))
    }
}

/// The reason why the claims of a token are refused. Some have the names that jsonwebtoken gives them.
#[derive(Debug, PartialEq)]
pub(super) enum ClaimError {
    /// The claim of this name is missing.
    Missing(&'static str),
    NotATime(&'static str),
    NotTexts(&'static str),
    Expired,
    NotYetValid,
    Issuer,
    Audience,
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "no {name}"),
            Self::NotATime(name) => write!(f, "its {name} is not a time"),
            Self::NotTexts(name) => write!(f, "its {name} is neither a text nor a list of texts"),
            Self::Expired => f.write_str("ExpiredSignature: its exp is over"),
            Self::NotYetValid => f.write_str("ImmatureSignature: its nbf is yet to come"),
            Self::Issuer => f.write_str("InvalidIssuer: its iss is another"),
            Self::Audience => f.write_str("InvalidAudience: its aud is another"),
        }
    }
}

impl Error for ClaimError {}

/// A time in whole seconds since 1970. A NumericDate may have a fraction (RFC 7519, 2).
fn seconds(claims: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, ClaimError> {
    let value = match claims.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let fraction = || value.as_f64().filter(|time| *time >= 0.0).map(|time| time as u64);
    match value.as_u64().or_else(fraction) {
        Some(time) => Ok(Some(time)),
        None => Err(ClaimError::NotATime(name)),
    }
}

/// Whether a claim, which is a text or a list of texts, has one of these.
fn has_any(
    claims: &Map<String, Value>,
    name: &'static str,
    wanted: &[String],
) -> Result<bool, ClaimError> {
    match claims.get(name) {
        None | Some(Value::Null) => Err(ClaimError::Missing(name)),
        Some(Value::String(text)) => Ok(wanted.contains(text)),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            let mut texts = list.iter().filter_map(Value::as_str);
            Ok(texts.any(|text| wanted.iter().any(|one| one == text)))
        }
        Some(_) => Err(ClaimError::NotTexts(name)),
    }
}

/// The claim of this name, or the nested claim to which the parts of the name lead. Names of claims may
/// have dots themselves, as in `https://example.com/roles`.
fn nested<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        name.match_indices('.').find_map(|(dot, _)| {
            let inner = claims.get(&name[..dot])?.as_object()?;
            nested(inner, &name[dot + 1..])
        })
    })
}

/// The items of a list, or the words of a text.
pub(super) fn words(claim: Option<&Value>) -> Vec<Box<str>> {
    match claim {
        Some(Value::String(text)) => text.split_whitespace().map(Box::from).collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(Box::from).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(claims: Value) -> Map<String, Value> {
        claims.as_object().unwrap().clone()
    }

    fn wanted() -> Claims {
        let leeway = Duration::from_secs(30);
        let (issuers, audiences) = (vec!["me".to_owned()], vec!["users".to_owned()]);
        Claims { issuers, audiences, leeway, roles: "roles".to_owned() }
    }

    #[test]
    fn claims_are_valid_until_exp_with_leeway() {
        let claims = of(json!({"exp": 100.7, "iss": "me", "aud": ["others", "users"]}));
        for now in [0, 10, 129, 130] {
            assert_eq!(wanted().check(&claims, now), Ok(130), "{now}");
        }
        let late = wanted().check(&claims, 131).unwrap_err();
        assert!(late.to_string().contains("ExpiredSignature"));
        let forever = of(json!({"exp": u64::MAX, "iss": "me", "aud": "users"}));
        assert_eq!(wanted().check(&forever, u64::MAX), Ok(u64::MAX));
    }

    #[test]
    fn claims_of_other_types_are_refused() {
        for (changed, problem) in [
            (json!({"exp": null}), "no exp"),
            (json!({"exp": "100"}), "its exp is not a time"),
            (json!({"exp": -1}), "its exp is not a time"),
            (json!({"nbf": 131}), "ImmatureSignature"),
            (json!({"nbf": "now"}), "its nbf is not a time"),
            (json!({"iss": ["you"]}), "InvalidIssuer"),
            (json!({"iss": 7}), "its iss is neither"),
            (json!({"aud": []}), "InvalidAudience"),
            (json!({"aud": ["users", 7]}), "its aud is neither"),
        ] {
            let mut claims = of(json!({"exp": 100, "iss": "me", "aud": "users"}));
            claims.extend(of(changed));
            let error = wanted().check(&claims, 100).unwrap_err().to_string();
            assert!(error.starts_with(problem), "{error}");
        }
    }

    #[test]
    fn roles_claim_may_be_nested_or_have_dots() {
        let claims = of(json!({
            "realm_access": {"roles": ["a", "b"]},
            "resource_access": {"my.client": {"roles": ["c"]}},
            "cognito:groups": ["d"],
            "https://example.com/roles": "e f",
            "realm_access.other": ["g"],
        }));
        for (name, roles) in [
            ("realm_access.roles", &["a", "b"][..]),
            ("resource_access.my.client.roles", &["c"]),
            ("cognito:groups", &["d"]),
            ("https://example.com/roles", &["e", "f"]),
            ("realm_access.other", &["g"]),
            ("realm_access", &[]),
            ("realm_access.roles.a", &[]),
            ("", &[]),
            (".", &[]),
        ] {
            let found = Claims { roles: name.to_owned(), ..wanted() }.roles(&claims);
            assert_eq!(found.iter().map(|role| &**role).collect::<Vec<_>>(), roles, "{name}");
        }
    }
}

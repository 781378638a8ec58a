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
    pub(super) fn check(&self, claims: &Map<String, Value>, now: u64) -> Result<u64, String> {
        let leeway = self.leeway.as_secs();
        let until = seconds(claims, "exp")?.ok_or("no exp")?.saturating_add(leeway);
        if until < now {
            return Err("ExpiredSignature: its exp is over".to_owned());
        }
        if seconds(claims, "nbf")?.is_some_and(|from| from > now.saturating_add(leeway)) {
            return Err("ImmatureSignature: its nbf is yet to come".to_owned());
        }
        if !self.issuers.is_empty() && !has_any(claims, "iss", &self.issuers)? {
            return Err("InvalidIssuer: its iss is another".to_owned());
        }
        // RFC 7519, 4.1.3: if no audience is configured, a token with one is for another service.
        let names_one = claims.get("aud").is_some_and(|audience| !audience.is_null());
        let is_for_us = match self.audiences.is_empty() {
            true => !names_one,
            false => has_any(claims, "aud", &self.audiences)?,
        };
        if !is_for_us {
            return Err("InvalidAudience: its aud is another".to_owned());
        }
        Ok(until)
    }

    pub(super) fn roles(&self, claims: &Map<String, Value>) -> Vec<Box<str>> {
        words(nested(claims, &self.roles))
    }
}

/// A time in whole seconds since 1970. A NumericDate may have a fraction (RFC 7519, 2).
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, String> {
    let value = match claims.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let fraction = || value.as_f64().filter(|time| *time >= 0.0).map(|time| time as u64);
    match value.as_u64().or_else(fraction) {
        Some(time) => Ok(Some(time)),
        None => Err(format!("its {name} is not a time")),
    }
}

/// Whether a claim, which is a text or a list of texts, has one of these.
fn has_any(claims: &Map<String, Value>, name: &str, wanted: &[String]) -> Result<bool, String> {
    match claims.get(name) {
        None | Some(Value::Null) => Err(format!("no {name}")),
        Some(Value::String(text)) => Ok(wanted.contains(text)),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            let mut texts = list.iter().filter_map(Value::as_str);
            Ok(texts.any(|text| wanted.iter().any(|one| one == text)))
        }
        Some(_) => Err(format!("its {name} is neither a text nor a list of texts")),
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
        assert!(wanted().check(&claims, 131).unwrap_err().contains("ExpiredSignature"));
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
            let error = wanted().check(&claims, 100).unwrap_err();
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

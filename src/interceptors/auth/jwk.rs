//! JSON Web Key Sets (RFC 7517).
//!
//! Keys are parsed one by one, and only the members that verifying a signature needs. An unsupported key
//! does not affect the others (RFC 7517, 5).

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::{Map, Value};

use super::contents::cut;
use super::keys::{Key, Keys, parse_algorithm, secret_of};

/// Some issuers add padding, although RFC 7515 (2) omits it.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The usable keys of a set, at least one.
pub(super) fn set(bytes: &[u8]) -> Result<Keys, String> {
    // The position only: the text of the error may contain a secret.
    let set: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("not a JWKS: no JSON object, from line {line}, column {column}")
    })?;
    let Some(Value::Array(members)) = set.get("keys") else {
        // The document at `/.well-known/openid-configuration`.
        if let Some(uri) = set.get("jwks_uri").and_then(Value::as_str) {
            return Err(format!("not a JWKS: it says that the JWKS is at {}", cut(uri)));
        }
        return Err("not a JWKS: it has no list \"keys\"".to_owned());
    };
    let (mut keys, mut passed_over) = (Vec::new(), Vec::new());
    for (number, member) in (1..).zip(members) {
        let key = Jwk::of(member);
        // Keys for other purposes are not an error.
        if key.as_ref().is_ok_and(|key| !key.is_for_signatures()) {
            continue;
        }
        match key.and_then(|key| key.parse()) {
            Ok(key) => keys.push(key),
            Err(problem) => {
                passed_over.push(format!("{}: {problem}", named(number, member)));
            }
        }
    }
    match (keys.is_empty(), passed_over.is_empty()) {
        (false, _) => Ok(Keys { keys, passed_over }),
        (true, true) => Err("no key for signatures in the JWKS".to_owned()),
        (true, false) => {
            Err(format!("no key in the JWKS that can be used: {}", passed_over.join("; ")))
        }
    }
}

/// The name of a key for messages.
fn named(number: usize, key: &Value) -> String {
    match key.get("kid").and_then(Value::as_str) {
        Some(kid) => format!("key \"{}\"", cut(kid)),
        None => format!("key number {number}"),
    }
}

/// One key of a set.
struct Jwk<'a>(&'a Map<String, Value>);

impl<'a> Jwk<'a> {
    fn of(key: &'a Value) -> Result<Self, String> {
        key.as_object().map(Self).ok_or_else(|| "not an object".to_owned())
    }

    /// A text member; `null` counts as missing.
    fn text(&self, name: &str) -> Result<Option<&'a str>, String> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("its {name} is not a text")),
        }
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, String> {
        let text = self.text(name)?.ok_or_else(|| format!("it has no {name}"))?;
        BASE64URL.decode(text).map_err(|_| format!("its {name} is not base64url"))
    }

    fn is_for_signatures(&self) -> bool {
        let signs = self.0.get("use").and_then(Value::as_str).is_none_or(|it| it == "sig");
        let operations = self.0.get("key_ops").and_then(Value::as_array);
        signs && operations.is_none_or(|all| all.iter().any(|one| one == "verify"))
    }

    fn parse(&self) -> Result<Key, String> {
        let kid = self.text("kid")?.map(str::to_owned);
        let (natural, key) = self.material()?;
        let algorithm = match self.text("alg")? {
            None => natural,
            Some(name) => parse_algorithm(name).map_err(|_| not_understood("alg", name))?,
        };
        if natural.family() == AlgorithmFamily::Ec && algorithm != natural {
            return Err(format!("{algorithm:?} is not for a key of {natural:?}"));
        }
        if let (AlgorithmFamily::Hmac, Ok(secret)) = (key.family(), key.try_get_as_bytes()) {
            secret_of(secret, algorithm)?;
        }
        Ok(Key { kid, ..Key::new(algorithm, key)? })
    }

    /// The key itself, and its default algorithm.
    fn material(&self) -> Result<(Algorithm, DecodingKey), String> {
        let curve = self.text("crv")?.unwrap_or("");
        match self.text("kty")?.ok_or("it has no kty")? {
            "RSA" => Ok((Algorithm::RS256, self.rsa()?)),
            "oct" => Ok((Algorithm::HS256, DecodingKey::from_secret(&self.bytes("k")?))),
            "EC" => match curve {
                "P-256" => Ok((Algorithm::ES256, self.point(32)?)),
                "P-384" => Ok((Algorithm::ES384, self.point(48)?)),
                other => Err(not_understood("crv", other)),
            },
            "OKP" if curve == "Ed25519" => {
                let key = self.bytes("x")?;
                match key.len() {
                    32 => Ok((Algorithm::EdDSA, DecodingKey::from_ed_der(&key))),
                    len => Err(format!("its x has {len} bytes: wanted 32")),
                }
            }
            "OKP" => Err(not_understood("crv", curve)),
            other => Err(not_understood("kty", other)),
        }
    }

    fn rsa(&self) -> Result<DecodingKey, String> {
        let (n, e) = (self.bytes("n")?, self.bytes("e")?);
        // Some issuers add leading zeros.
        let zeros = n.iter().take_while(|byte| **byte == 0).count();
        match n.len() - zeros {
            256..=1024 => Ok(DecodingKey::from_rsa_raw_components(&n, &e)),
            len => Err(format!("an RSA key of {} bits: wanted 2048 to 8192", len * 8)),
        }
    }

    /// A point on a curve, uncompressed (SEC 1, 2.3.3).
    fn point(&self, len: usize) -> Result<DecodingKey, String> {
        let mut point = vec![4];
        for name in ["x", "y"] {
            let number = self.bytes(name)?;
            // RFC 7518, 6.2.1.2: all bytes, including leading zeros.
            if number.len() != len {
                return Err(format!("its {name} has {} bytes: wanted {len}", number.len()));
            }
            point.extend(number);
        }
        Ok(DecodingKey::from_ec_der(&point))
    }
}

fn not_understood(member: &str, value: &str) -> String {
    format!("its {member} \"{}\" is not understood", cut(value))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(keys: Value) -> Result<Keys, String> {
        set(json!({"keys": keys}).to_string().as_bytes())
    }

    fn ed(changes: Value) -> Value {
        let x = BASE64URL.encode([7; 32]);
        let mut key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "good", "x": x});
        key.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        key
    }

    #[test]
    fn jwk_unsupported_key_is_skipped_with_a_reason() {
        let number = BASE64URL.encode([7; 32]);
        for (odd, why) in [
            (json!(7), "key number 1: not an object"),
            (json!({}), "key number 1: it has no kty"),
            (json!({"kty": 7}), "its kty is not a text"),
            (json!({"kty": "AKP", "kid": "pq"}), "key \"pq\": its kty \"AKP\" is not understood"),
            (json!({"kty": "EC", "crv": "P-521"}), "its crv \"P-521\" is not understood"),
            (json!({"kty": "EC", "crv": "P-256", "x": number}), "it has no y"),
            (
                json!({"kty": "EC", "crv": "P-256", "x": number, "y": "AA"}),
                "its y has 1 bytes: wanted 32",
            ),
            (json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}), "an RSA key of 24 bits"),
            (json!({"kty": "oct", "k": "c2VjcmV0"}), "needs a secret of 32 bytes"),
            (ed(json!({"kid": 7})), "its kid is not a text"),
            (ed(json!({"alg": "Ed448"})), "its alg \"Ed448\" is not understood"),
            (ed(json!({"alg": "RS256"})), "RS256 is not for a key of this kind"),
            (ed(json!({"crv": "X25519"})), "its crv \"X25519\" is not understood"),
            (ed(json!({"x": "!"})), "its x is not base64url"),
            (ed(json!({"x": "AA"})), "its x has 1 bytes"),
        ] {
            let keys = read(json!([odd, ed(json!({}))])).unwrap();
            assert_eq!(keys.keys.len(), 1, "{why}");
            assert!(keys.passed_over[0].contains(why), "{why:?}: {:?}", keys.passed_over);
            let error = read(json!([odd])).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn jwk_for_other_uses_is_no_error() {
        for other in [json!({"use": "enc"}), json!({"key_ops": ["encrypt"]}), json!({"use": "x"})] {
            let keys = read(json!([ed(other.clone()), ed(json!({}))])).unwrap();
            assert_eq!((keys.keys.len(), keys.passed_over.len()), (1, 0), "{other}");
            assert_eq!(read(json!([ed(other)])).unwrap_err(), "no key for signatures in the JWKS");
        }
    }

    #[test]
    fn jwk_ed25519_is_an_algorithm() {
        for algorithm in [json!("Ed25519"), json!("EdDSA"), json!(null)] {
            let keys = read(json!([ed(json!({"alg": algorithm}))])).unwrap();
            assert_eq!(keys.keys[0].algorithm, Algorithm::EdDSA, "{algorithm}");
        }
    }

    #[test]
    fn jwks_of_other_contents_is_an_error() {
        for text in ["", "[]", "\"secret\"", "{}", "{\"keys\": {}}", "{\"keys\": null}"] {
            let error = set(text.as_bytes()).unwrap_err();
            assert!(error.contains("not a JWKS") && !error.contains("secret"), "{error}");
        }
        let discovery = br#"{"issuer": "https://a", "jwks_uri": "https://a/jwks"}"#;
        assert!(set(discovery).unwrap_err().ends_with("is at https://a/jwks"));
    }
}

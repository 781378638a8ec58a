//! JSON Web Key Sets (RFC 7517).
//!
//! Keys are parsed one by one, and only the members that verifying a signature needs. An unsupported key
//! does not affect the others (RFC 7517, 5).

use std::error::Error;
use std::fmt;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::{Map, Value};

use super::contents::cut;
use super::keys::{Key, KeyError, Keys, parse_algorithm, secret_of};

/// Some issuers add padding, although RFC 7515 (2) omits it.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The usable keys of a set, at least one.
pub(super) fn set(bytes: &[u8]) -> Result<Keys, JwksError> {
    let set: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|error| JwksError::NotJson { line: error.line(), column: error.column() })?;
    let Some(Value::Array(members)) = set.get("keys") else {
        // The document at `/.well-known/openid-configuration`.
        if let Some(uri) = set.get("jwks_uri").and_then(Value::as_str) {
            return Err(JwksError::Elsewhere(cut(uri)));
        }
        return Err(JwksError::NoList);
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
        (true, true) => Err(JwksError::NoKey),
        (true, false) => Err(JwksError::NoUsableKey(passed_over)),
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
    fn of(key: &'a Value) -> Result<Self, JwkError> {
        key.as_object().map(Self).ok_or(JwkError::NotAnObject)
    }

    /// A text member; `null` counts as missing.
    fn text(&self, name: &'static str) -> Result<Option<&'a str>, JwkError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(JwkError::NotAText(name)),
        }
    }

    fn bytes(&self, name: &'static str) -> Result<Vec<u8>, JwkError> {
        let text = self.text(name)?.ok_or(JwkError::Missing(name))?;
        BASE64URL.decode(text).map_err(|_| JwkError::NotBase64(name))
    }

    fn is_for_signatures(&self) -> bool {
        let signs = self.0.get("use").and_then(Value::as_str).is_none_or(|it| it == "sig");
        let operations = self.0.get("key_ops").and_then(Value::as_array);
        signs && operations.is_none_or(|all| all.iter().any(|one| one == "verify"))
    }

    fn parse(&self) -> Result<Key, JwkError> {
        let kid = self.text("kid")?.map(str::to_owned);
        let (natural, key) = self.material()?;
        let algorithm = match self.text("alg")? {
            None => natural,
            Some(name) => parse_algorithm(name).map_err(|_| not_understood("alg", name))?,
        };
        if natural.family() == AlgorithmFamily::Ec && algorithm != natural {
            return Err(JwkError::Key(KeyError::OtherAlgorithm { chosen: algorithm, natural }));
        }
        if let (AlgorithmFamily::Hmac, Ok(secret)) = (key.family(), key.try_get_as_bytes()) {
            secret_of(secret, algorithm).map_err(JwkError::Key)?;
        }
        Ok(Key { kid, ..Key::new(algorithm, key).map_err(JwkError::Key)? })
    }

    /// The key itself, and its default algorithm.
    fn material(&self) -> Result<(Algorithm, DecodingKey), JwkError> {
        let curve = self.text("crv")?.unwrap_or("");
        match self.text("kty")?.ok_or(JwkError::Missing("kty"))? {
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
                    len => Err(JwkError::Length { member: "x", len, wanted: 32 }),
                }
            }
            "OKP" => Err(not_understood("crv", curve)),
            other => Err(not_understood("kty", other)),
        }
    }

    fn rsa(&self) -> Result<DecodingKey, JwkError> {
        let (n, e) = (self.bytes("n")?, self.bytes("e")?);
        // Some issuers add leading zeros.
        let zeros = n.iter().take_while(|byte| **byte == 0).count();
        match n.len() - zeros {
            256..=1024 => Ok(DecodingKey::from_rsa_raw_components(&n, &e)),
            len => Err(JwkError::RsaLength(len * 8)),
        }
    }

    /// A point on a curve, uncompressed (SEC 1, 2.3.3).
    fn point(&self, wanted: usize) -> Result<DecodingKey, JwkError> {
        let mut point = vec![4];
        for member in ["x", "y"] {
            let number = self.bytes(member)?;
            // RFC 7518, 6.2.1.2: all bytes, including leading zeros.
            if number.len() != wanted {
                return Err(JwkError::Length { member, len: number.len(), wanted });
            }
            point.extend(number);
        }
        Ok(DecodingKey::from_ec_der(&point))
    }
}

fn not_understood(member: &'static str, value: &str) -> JwkError {
    JwkError::NotUnderstood { member, value: cut(value) }
}

/// A JWKS without usable keys.
#[derive(Debug)]
pub(super) enum JwksError {
    /// The position only: the text of the parser's error may contain a secret.
    NotJson {
        line: usize,
        column: usize,
    },
    NoList,
    /// A document of an issuer that names this URL.
    Elsewhere(String),
    /// No key for signatures.
    NoKey,
    /// The keys, each with its problem.
    NoUsableKey(Vec<String>),
}

/// A key of a set that cannot be used. Its members are named, and values are shown only if they are not
/// secret.
#[derive(Debug)]
enum JwkError {
    NotAnObject,
    Missing(&'static str),
    NotAText(&'static str),
    NotBase64(&'static str),
    NotUnderstood {
        member: &'static str,
        value: String,
    },
    /// The numbers are bytes.
    Length {
        member: &'static str,
        len: usize,
        wanted: usize,
    },
    /// In bits.
    RsaLength(usize),
    Key(KeyError),
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson { line, column } => {
                write!(f, "not a JWKS: no JSON object, from line {line}, column {column}")
            }
            Self::NoList => f.write_str("not a JWKS: it has no list \"keys\""),
            Self::Elsewhere(url) => write!(f, "not a JWKS: it says that the JWKS is at {url}"),
            Self::NoKey => f.write_str("no key for signatures in the JWKS"),
            Self::NoUsableKey(problems) => {
                write!(f, "no key in the JWKS that can be used: {}", problems.join("; "))
            }
        }
    }
}

impl fmt::Display for JwkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("not an object"),
            Self::Missing(member) => write!(f, "it has no {member}"),
            Self::NotAText(member) => write!(f, "its {member} is not a text"),
            Self::NotBase64(member) => write!(f, "its {member} is not base64url"),
            Self::NotUnderstood { member, value } => {
                write!(f, "its {member} \"{value}\" is not understood")
            }
            Self::Length { member, len, wanted } => {
                write!(f, "its {member} has {len} bytes: wanted {wanted}")
            }
            Self::RsaLength(bits) => write!(f, "an RSA key of {bits} bits: wanted 2048 to 8192"),
            Self::Key(error) => error.fmt(f),
        }
    }
}

impl Error for JwksError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(keys: Value) -> Result<Keys, JwksError> {
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
            let error = read(json!([odd])).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn jwk_for_other_uses_is_no_error() {
        for other in [json!({"use": "enc"}), json!({"key_ops": ["encrypt"]}), json!({"use": "x"})] {
            let keys = read(json!([ed(other.clone()), ed(json!({}))])).unwrap();
            assert_eq!((keys.keys.len(), keys.passed_over.len()), (1, 0), "{other}");
            let error = read(json!([ed(other)])).unwrap_err();
            assert_eq!(error.to_string(), "no key for signatures in the JWKS");
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
            let error = set(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("not a JWKS") && !error.contains("secret"), "{error}");
        }
        let discovery = br#"{"issuer": "https://a", "jwks_uri": "https://a/jwks"}"#;
        assert!(set(discovery).unwrap_err().to_string().ends_with("is at https://a/jwks"));
    }
}

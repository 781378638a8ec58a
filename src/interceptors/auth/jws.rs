use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, crypto};
use serde_json::{Map, Value};

use super::keys::{Key, parse_algorithm};

/// A signed token in its compact form (RFC 7515, 7.1): header, payload and signature in base64url, with
/// dots between them.
///
/// It parses the header itself, since jsonwebtoken does not know `Ed25519`.
#[derive(Debug)]
pub(super) struct Jws<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// The signed part: header and payload as they are in the token.
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Jws<'a> {
    /// Parses the header, which is not verified yet.
    pub(super) fn parse(token: &'a str) -> Result<Self, String> {
        let (message, signature) = token.rsplit_once('.').ok_or("no header: not a token")?;
        let (header, payload) = message.split_once('.').ok_or("no header: not a token")?;
        let header = object(header).map_err(|problem| format!("no header: {problem}"))?;
        if header.contains_key("crit") {
            // RFC 7515, 4.1.11: no extensions are supported.
            return Err("an extension that has to be understood (crit)".to_owned());
        }
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or("no header: no alg")?;
        let algorithm =
            parse_algorithm(algorithm).map_err(|problem| format!("no header: {problem}"))?;
        let kid = match header.get("kid") {
            None | Some(Value::Null) => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err("no header: its kid is not a text".to_owned()),
        };
        Ok(Self { algorithm, kid, message, payload, signature })
    }

    /// Whether the key has signed the token. The key has to be for the algorithm of the token.
    pub(super) fn is_signed_by(&self, key: &Key) -> bool {
        key.algorithm == self.algorithm
            && crypto::verify(self.signature, self.message.as_bytes(), &key.key, key.algorithm)
                .unwrap_or(false)
    }

    /// The claims. They count only after the signature is verified.
    pub(super) fn claims(&self) -> Result<Map<String, Value>, String> {
        object(self.payload).map_err(|problem| format!("no claims: {problem}"))
    }
}

/// A JSON object in base64url.
fn object(part: &str) -> Result<Map<String, Value>, &'static str> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| "not base64url")?;
    serde_json::from_slice(&bytes).map_err(|_| "not a JSON object")
}

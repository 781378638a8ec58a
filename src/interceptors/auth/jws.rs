use std::error::Error;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, crypto};
use serde_json::{Map, Value};

use super::keys::{Key, KeyError, parse_algorithm};

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
    pub(super) fn parse(token: &'a str) -> Result<Self, JwsError> {
        let (message, signature) = token.rsplit_once('.').ok_or(JwsError::NotAToken)?;
        let (header, payload) = message.split_once('.').ok_or(JwsError::NotAToken)?;
        let header = object(header).map_err(JwsError::Header)?;
        if header.contains_key("crit") {
            // RFC 7515, 4.1.11: no extensions are supported.
            return Err(JwsError::Extension);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(JwsError::NoAlgorithm)?;
        let algorithm = parse_algorithm(algorithm).map_err(JwsError::Algorithm)?;
        let kid = match header.get("kid") {
            None | Some(Value::Null) => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(JwsError::KidNotText),
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
    pub(super) fn claims(&self) -> Result<Map<String, Value>, JwsError> {
        object(self.payload).map_err(JwsError::Claims)
    }
}

/// A JSON object in base64url.
fn object(part: &str) -> Result<Map<String, Value>, NoObject> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| NoObject::NotBase64)?;
    serde_json::from_slice(&bytes).map_err(|_| NoObject::NotJson)
}

/// A token that cannot be read. It has no source: errors of parsers contain parts of the token.
#[derive(Debug)]
pub(super) enum JwsError {
    NotAToken,
    Header(NoObject),
    /// The header has `crit`.
    Extension,
    NoAlgorithm,
    Algorithm(KeyError),
    KidNotText,
    Claims(NoObject),
}

/// A part of a token that is not a JSON object in base64url.
#[derive(Debug)]
pub(super) enum NoObject {
    NotBase64,
    NotJson,
}

impl fmt::Display for JwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAToken => f.write_str("no header: not a token"),
            Self::Header(problem) => write!(f, "no header: {problem}"),
            Self::Extension => f.write_str("an extension that has to be understood (crit)"),
            Self::NoAlgorithm => f.write_str("no header: no alg"),
            Self::Algorithm(error) => write!(f, "no header: {error}"),
            Self::KidNotText => f.write_str("no header: its kid is not a text"),
            Self::Claims(problem) => write!(f, "no claims: {problem}"),
        }
    }
}

impl fmt::Display for NoObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotBase64 => "not base64url",
            Self::NotJson => "not a JSON object",
        })
    }
}

impl Error for JwsError {}

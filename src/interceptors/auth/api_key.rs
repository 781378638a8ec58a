use std::collections::HashMap;
use std::error::Error;
use std::fmt;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use subtle::ConstantTimeEq;

use super::contents::{Contents, Summary, with_roles};
use super::table::{self, LineProblem, TableError};
use crate::interceptors::principal::{Principal, PrincipalKind};

/// Longer keys are refused without hashing.
const MAX_KEY_LEN: usize = 512;

/// The bytes of a hash that find its line. The time of the lookup may reveal only these.
const PREFIX: usize = 8;

type Hash = [u8; SHA256_OUTPUT_LEN];

/// The hashes of API keys. A key is random, so inverting its plain SHA-256 is as hard as guessing the
/// key.
///
/// A line is `<SHA-256 in hex> <name> [<role>,…]`; `printf %s "$key" | sha256sum` makes the first
/// word.
#[derive(Debug)]
pub(super) struct ApiKeys(HashMap<[u8; PREFIX], (Hash, Principal)>);

impl ApiKeys {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TableError> {
        let mut keys = HashMap::new();
        for (number, words) in table::lines(bytes)? {
            let (hash, name, roles) = match &words[..] {
                [hash, name, roles @ ..] => (decode_hex(hash), name, table::roles(roles)),
                _ => (None, &"", Vec::new()),
            };
            let Some(hash) = hash else {
                return Err(TableError::Line(number, LineProblem::NotAnApiKey));
            };
            let principal = Principal::with(name, PrincipalKind::ApiKey, roles, Vec::new());
            if keys.insert(prefix(&hash), (hash, principal)).is_some() {
                return Err(TableError::Line(number, LineProblem::RepeatedKey));
            }
        }
        Ok(Self(keys))
    }

    pub(super) fn verify(&self, key: &str) -> Result<Principal, InvalidApiKey> {
        if key.len() > MAX_KEY_LEN {
            return Err(InvalidApiKey::TooLong(key.len()));
        }
        let mut hash = Hash::default();
        hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
        match self.0.get(&prefix(&hash)) {
            Some((known, principal)) if bool::from(known.ct_eq(&hash)) => Ok(principal.clone()),
            _ => Err(InvalidApiKey::Unknown),
        }
    }
}

/// The reason why an API key is refused.
#[derive(Debug)]
pub(super) enum InvalidApiKey {
    /// It has so many bytes.
    TooLong(usize),
    Unknown,
}

impl fmt::Display for InvalidApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => {
                write!(f, "an API key of {len} bytes: wanted at most {MAX_KEY_LEN}")
            }
            Self::Unknown => f.write_str("unknown API key"),
        }
    }
}

impl Error for InvalidApiKey {}

impl Contents for ApiKeys {
    fn summary(&self) -> Summary {
        let keys = self.0.values();
        let names = keys.map(|(_, principal)| with_roles(principal.name(), principal.roles()));
        Summary::new(self.0.len(), "API key", names)
    }
}

fn prefix(hash: &Hash) -> [u8; PREFIX] {
    *hash.first_chunk().expect("a hash is longer than its prefix")
}

fn decode_hex(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    let mut digits = text.chars();
    for byte in &mut hash {
        let (high, low) = (digits.next()?.to_digit(16)?, digits.next()?.to_digit(16)?);
        *byte = (high << 4 | low) as u8;
    }
    match digits.next() {
        None => Some(hash),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `key`.
    const LINE: &str =
        "2C70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683 robot admin,x";

    #[test]
    fn api_key_is_found_by_its_hash() {
        let keys = ApiKeys::parse(LINE.as_bytes()).unwrap();
        let robot = keys.verify("key").unwrap();
        assert_eq!((robot.name(), robot.kind()), ("robot", PrincipalKind::ApiKey));
        assert!(robot.has_role("admin") && robot.has_role("x") && !robot.has_role("y"));
        let long = "k".repeat(MAX_KEY_LEN + 1);
        for other in ["", "Key", "key ", LINE.split(' ').next().unwrap(), &long] {
            assert!(keys.verify(other).is_err(), "{other}");
        }
    }

    #[test]
    fn api_key_errors_do_not_repeat_the_line() {
        let twice = format!("{LINE}\n{LINE}");
        for text in ["secret robot", &LINE[2..], LINE.split(' ').next().unwrap(), &twice] {
            let error = ApiKeys::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("line ") && !error.contains("secret"), "{error}");
        }
    }
}

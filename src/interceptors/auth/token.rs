use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Map, Value, json};

use super::builder::Problem;
use super::keys::{parse_algorithm, read_secret};
use super::{AuthError, crypto};

/// A token for development, signed with a secret. In production an issuer signs tokens, and servers
/// have only its public keys.
#[derive(Debug, Clone)]
pub struct DevelopmentToken {
    header: Header,
    claims: Map<String, Value>,
}

impl DevelopmentToken {
    /// A token for this principal that expires after this time.
    pub fn new(subject: &str, expires_in: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut claims = Map::new();
        claims.insert("sub".to_owned(), json!(subject));
        claims.insert("iat".to_owned(), json!(now));
        claims.insert("exp".to_owned(), json!(now.saturating_add(expires_in.as_secs())));
        Self { header: Header::default(), claims }
    }

    /// Sets a text claim, such as `iss`, `aud`, `jti` or `scope`.
    #[must_use]
    pub fn claim(mut self, name: &str, value: &str) -> Self {
        self.claims.insert(name.to_owned(), json!(value));
        self
    }

    /// Sets the roles, in the claim `roles`.
    #[must_use]
    pub fn roles<'a>(self, roles: impl IntoIterator<Item = &'a str>) -> Self {
        self.roles_in("roles", roles)
    }

    /// Sets the roles in the claim of exactly this name, dots included.
    /// [`AuthBuilder::roles_claim`](super::AuthBuilder::roles_claim) of the same name finds them.
    #[must_use]
    pub fn roles_in<'a>(mut self, claim: &str, roles: impl IntoIterator<Item = &'a str>) -> Self {
        self.claims.insert(claim.to_owned(), roles.into_iter().collect());
        self
    }

    /// Sets the `kid` of the key.
    #[must_use]
    pub fn kid(mut self, kid: &str) -> Self {
        self.header.kid = Some(kid.to_owned());
        self
    }

    /// Signs the token with the secret in a file, by HS256, HS384 or HS512.
    ///
    /// # Errors
    /// If the file or the algorithm cannot be used.
    pub fn sign(mut self, secret: &Path, algorithm: &str) -> Result<String, AuthError> {
        crypto::install();
        self.header.alg = parse_algorithm(algorithm).map_err(Problem::Algorithm)?;
        let key = EncodingKey::from_secret(&read_secret(secret, self.header.alg)?);
        Ok(encode(&self.header, &self.claims, &key).map_err(Problem::Signing)?)
    }
}

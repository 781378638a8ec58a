use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{self, Decode};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::AuthError;
use super::contents::{Contents, Summary};
use super::file::Watched;
use super::jwk::{self, JwksError};
use super::table::{BYTE_ORDER_MARK, without_mark};

/// The names of the supported algorithms.
const NAMES: &str =
    "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA or Ed25519";

/// A file with keys that verify tokens. It is read again when it changes.
///
/// The format is set and never guessed. If a broken PEM were taken for a secret, all who know the public
/// key could sign tokens.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
    format: Format,
    algorithm: Option<String>,
    kid: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Secret,
    Pem,
    Jwks,
}

impl KeyFile {
    /// A secret shared with the issuer: all bytes of the file without the line end of its last line. It
    /// is for HS256 unless an [`algorithm`](Self::algorithm) is set. It has to be at least as long as the
    /// hash (RFC 7518, 3.2): 32 bytes for HS256.
    pub fn secret(path: impl Into<PathBuf>) -> Self {
        Self::new(path.into(), Format::Secret)
    }

    /// Public keys of the issuer in PEM (`BEGIN PUBLIC KEY`): RSA, for RS256 unless an
    /// [`algorithm`](Self::algorithm) is set, EC on P-256 or P-384, or Ed25519.
    pub fn pem(path: impl Into<PathBuf>) -> Self {
        Self::new(path.into(), Format::Pem)
    }

    /// A JSON Web Key Set (RFC 7517). Keys for other purposes than signatures are skipped. Unsupported
    /// keys are skipped with a log line for each.
    pub fn jwks(path: impl Into<PathBuf>) -> Self {
        Self::new(path.into(), Format::Jwks)
    }

    fn new(path: PathBuf, format: Format) -> Self {
        Self { path, format, algorithm: None, kid: None }
    }

    /// Sets the algorithm of a secret or of the keys of a PEM, such as `HS512` or `PS256`. Tokens with
    /// another algorithm are refused. Each key of a JWKS has its own.
    #[must_use]
    pub fn algorithm(mut self, name: impl Into<String>) -> Self {
        self.algorithm = Some(name.into());
        self
    }

    /// Sets the `kid` of a secret or of the keys of a PEM. Without one, the key verifies tokens with any
    /// `kid` or none.
    #[must_use]
    pub fn kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    pub(super) fn open(self) -> Result<Watched<Keys>, AuthError> {
        let path = self.path.clone();
        Watched::open(&path, move |bytes| self.parse(bytes))
    }

    fn parse(&self, bytes: &[u8]) -> Result<Keys, KeyError> {
        let algorithm = self.algorithm.as_deref().map(parse_algorithm).transpose()?;
        let keys = match self.format {
            Format::Secret => vec![secret(bytes, algorithm)?],
            Format::Pem => public_keys(without_mark(bytes), algorithm)?,
            Format::Jwks if algorithm.is_some() || self.kid.is_some() => {
                return Err(KeyError::SettingsOfJwks);
            }
            Format::Jwks => return jwk::set(without_mark(bytes)).map_err(KeyError::Jwks),
        };
        let keys = keys.into_iter().map(|key| Key { kid: self.kid.clone(), ..key }).collect();
        Ok(Keys { keys, passed_over: Vec::new() })
    }
}

/// The keys of a file.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) keys: Vec<Key>,
    /// The skipped keys of a set, with reasons.
    pub(super) passed_over: Vec<String>,
}

impl Contents for Keys {
    fn summary(&self) -> Summary {
        let summary = Summary::new(self.keys.len(), "key", self.keys.iter().map(Key::shown));
        summary.with_remarks(&self.passed_over)
    }
}

/// A key with its only algorithm.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

impl Key {
    pub(super) fn new(algorithm: Algorithm, key: DecodingKey) -> Result<Self, KeyError> {
        if key.family() == algorithm.family() {
            Ok(Self { kid: None, algorithm, key })
        } else {
            Err(KeyError::OtherKind(algorithm))
        }
    }

    /// Its id and algorithm; for a secret also the length, which reveals white space at its end.
    fn shown(&self) -> String {
        let kid = self.kid.as_ref().map(|kid| format!("{kid} ")).unwrap_or_default();
        match self.key.try_get_as_bytes() {
            Ok(secret) if self.key.family() == AlgorithmFamily::Hmac => {
                format!("{kid}({:?}, {} bytes)", self.algorithm, secret.len())
            }
            _ => format!("{kid}({:?})", self.algorithm),
        }
    }
}

/// Parses the name of an algorithm. EdDSA has a second name: `Ed25519` names the curve (RFC 9864).
pub(super) fn parse_algorithm(name: &str) -> Result<Algorithm, KeyError> {
    let name = if name == "Ed25519" { "EdDSA" } else { name };
    Algorithm::from_str(name).map_err(|_| KeyError::UnknownAlgorithm(name.to_owned()))
}

/// A secret without its line end, if it is long enough for the algorithm.
pub(super) fn secret_of(bytes: &[u8], algorithm: Algorithm) -> Result<&[u8], KeyError> {
    let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    if secret.starts_with(BYTE_ORDER_MARK) {
        return Err(KeyError::ByteOrderMark);
    }
    if secret.starts_with(b"-----BEGIN") || secret.starts_with(b"{") {
        return Err(KeyError::NotASecret);
    }
    let wanted = match algorithm {
        Algorithm::HS256 => 32,
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        other => return Err(KeyError::NotForSecrets(other)),
    };
    if secret.len() < wanted {
        return Err(KeyError::ShortSecret { algorithm, wanted, len: secret.len() });
    }
    Ok(secret)
}

fn secret(bytes: &[u8], algorithm: Option<Algorithm>) -> Result<Key, KeyError> {
    let algorithm = algorithm.unwrap_or(Algorithm::HS256);
    let secret = secret_of(bytes, algorithm)?;
    Key::new(algorithm, DecodingKey::from_secret(secret))
}

fn public_keys(pem: &[u8], algorithm: Option<Algorithm>) -> Result<Vec<Key>, KeyError> {
    let sections = SubjectPublicKeyInfoDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let sections = sections.map_err(|_| KeyError::Pem)?;
    if sections.is_empty() {
        return Err(KeyError::NoPublicKey);
    }
    sections.iter().map(|der| public_key(der, algorithm)).collect()
}

fn public_key(der: &[u8], algorithm: Option<Algorithm>) -> Result<Key, KeyError> {
    const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
    const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
    const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(KeyError::Unreadable)?;
    let key = info.subject_public_key.raw_bytes();
    let curve = || info.algorithm.parameters_oid().ok();
    let (natural, key) = match info.algorithm.oid {
        // A modulus of 2048 bits, the least that is accepted, has 256 bytes, and its structure a few more.
        RSA if key.len() < 256 => return Err(KeyError::ShortRsa),
        RSA => (Algorithm::RS256, DecodingKey::from_rsa_der(key)),
        EC if curve() == Some(P256) => (Algorithm::ES256, DecodingKey::from_ec_der(key)),
        EC if curve() == Some(P384) => (Algorithm::ES384, DecodingKey::from_ec_der(key)),
        ED25519 => (Algorithm::EdDSA, DecodingKey::from_ed_der(key)),
        EC => return Err(KeyError::Curve),
        other => return Err(KeyError::UnknownKind(other)),
    };
    match algorithm {
        // Only RSA has several algorithms.
        Some(chosen) if natural != Algorithm::RS256 && chosen != natural => {
            Err(KeyError::OtherAlgorithm { chosen, natural })
        }
        chosen => Key::new(chosen.unwrap_or(natural), key),
    }
}

/// Reads a secret to sign with.
pub(super) fn read_secret(path: &Path, algorithm: Algorithm) -> Result<Vec<u8>, AuthError> {
    let bytes = std::fs::read(path).map_err(|error| AuthError::reading(path, error))?;
    secret_of(&bytes, algorithm)
        .map(<[u8]>::to_vec)
        .map_err(|error| AuthError::contents(path, error))
}

/// A key that cannot be used.
#[derive(Debug)]
pub(super) enum KeyError {
    UnknownAlgorithm(String),
    /// The key is of another kind than this algorithm needs.
    OtherKind(Algorithm),
    /// The chosen algorithm is not the only one of the key.
    OtherAlgorithm {
        chosen: Algorithm,
        natural: Algorithm,
    },
    NotForSecrets(Algorithm),
    ByteOrderMark,
    NotASecret,
    /// The numbers are bytes.
    ShortSecret {
        algorithm: Algorithm,
        wanted: usize,
        len: usize,
    },
    /// An algorithm or a `kid` is set for a JWKS.
    SettingsOfJwks,
    /// Without the error of the parser: it has a line of the PEM, which may be a private key.
    Pem,
    NoPublicKey,
    Unreadable(der::Error),
    ShortRsa,
    Curve,
    UnknownKind(ObjectIdentifier),
    Jwks(JwksError),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownAlgorithm(name) => {
                write!(f, "unknown algorithm {name:?}: wanted {NAMES}")
            }
            Self::OtherKind(algorithm) => {
                write!(f, "{algorithm:?} is not for a key of this kind")
            }
            Self::OtherAlgorithm { chosen, natural } => {
                write!(f, "{chosen:?} is not for a key of {natural:?}")
            }
            Self::NotForSecrets(algorithm) => {
                write!(f, "{algorithm:?} is not for a secret: wanted HS256, HS384 or HS512")
            }
            Self::ByteOrderMark => {
                f.write_str("a secret behind a byte order mark, which the issuer may not have")
            }
            Self::NotASecret => f.write_str("this is a PEM or a JWKS, no secret"),
            Self::ShortSecret { algorithm, wanted, len } => {
                write!(f, "{algorithm:?} needs a secret of {wanted} bytes, this has {len}")
            }
            Self::SettingsOfJwks => {
                f.write_str("the keys of a JWKS have their own algorithms and ids")
            }
            Self::Pem => f.write_str("the PEM cannot be read"),
            Self::NoPublicKey => f.write_str("no public key (BEGIN PUBLIC KEY) in the PEM"),
            Self::Unreadable(error) => write!(f, "a public key that cannot be read: {error}"),
            Self::ShortRsa => f.write_str("an RSA key of less than 2048 bits"),
            Self::Curve => f.write_str("an EC key on a curve other than P-256 and P-384"),
            Self::UnknownKind(kind) => {
                write!(f, "a public key of an unknown kind ({kind}): wanted RSA, EC or Ed25519")
            }
            Self::Jwks(error) => error.fmt(f),
        }
    }
}

impl Error for KeyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable(error) => Some(error),
            Self::Jwks(error) => Some(error),
            _ => None,
        }
    }
}

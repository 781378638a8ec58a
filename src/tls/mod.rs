//! The parts of TLS that server and clients share: rustls with ring, a clock, and certificates in PEM.

#[cfg(any(feature = "_https", feature = "redis"))]
mod client;

use std::error::Error;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::VerifierBuilderError;
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::{self, RootCertStore};

#[cfg(any(feature = "_https", feature = "redis"))]
pub use self::client::ClientTls;

pub(crate) fn provider() -> CryptoProvider {
    // Only AEAD suites with ephemeral keys: none that RFC 9113 (9.2.2) prohibits.
    ring::default_provider()
}

/// The system's clock. An earlier time counts as 1970, where the clock of rustls would panic.
#[derive(Debug)]
pub(crate) struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(UnixTime::since_unix_epoch(now))
    }
}

/// The authorities of a PEM, at least one.
pub(crate) fn roots(of: &'static str, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, authority) in certificates(of, pem)?.into_iter().enumerate() {
        roots.add(authority).map_err(|error| TlsError::certificate(of, index, error))?;
    }
    Ok(roots)
}

pub(crate) fn certificates(
    of: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(TlsError::new(of, Problem::NoCertificate))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(TlsError::pem(of, &error)),
    }
}

/// A certificate or key that cannot be used. The message names it and its problem.
#[derive(Debug)]
pub struct TlsError {
    /// The certificate or key, such as `private key`.
    of: &'static str,
    problem: Problem,
}

#[derive(Debug)]
pub(crate) enum Problem {
    NoCertificate,
    NoKey,
    KeyMismatch,
    Expired,
    NotYetValid,
    /// Without the error of the parser: it has a line of the PEM, which may be a key.
    Pem(&'static str),
    /// The certificate of this number, from 1.
    Certificate(usize, rustls::Error),
    Key(rustls::Error),
    Verifier(VerifierBuilderError),
    /// The system has no authorities, perhaps because of this error.
    #[cfg(feature = "_https")]
    NoAuthorities(Option<rustls_native_certs::Error>),
}

impl TlsError {
    pub(crate) fn new(of: &'static str, problem: Problem) -> Self {
        Self { of, problem }
    }

    pub(crate) fn pem(of: &'static str, error: &pem::Error) -> Self {
        Self::new(
            of,
            Problem::Pem(match error {
                pem::Error::MissingSectionEnd { .. } => "the PEM breaks off within a section",
                pem::Error::IllegalSectionStart { .. } => "the PEM has an invalid BEGIN line",
                pem::Error::Base64Decode(_) => "the PEM has a section that is not base64",
                _ => "the PEM cannot be read",
            }),
        )
    }

    pub(crate) fn certificate(of: &'static str, index: usize, error: rustls::Error) -> Self {
        Self::new(of, Problem::Certificate(index + 1, error))
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.of)?;
        match &self.problem {
            Problem::NoCertificate => f.write_str("no certificate in the PEM"),
            Problem::NoKey => f.write_str(
                "no private key in the PEM, or an encrypted one: wanted PKCS#8, PKCS#1 or SEC1 \
                 without a password",
            ),
            Problem::KeyMismatch => f.write_str("does not belong to the first certificate"),
            Problem::Expired => f.write_str("the certificate has expired"),
            Problem::NotYetValid => f.write_str("the certificate is not valid yet"),
            Problem::Pem(problem) => f.write_str(problem),
            // The text of the error itself is about the certificate of a peer.
            Problem::Certificate(number, rustls::Error::InvalidCertificate(error)) => {
                write!(f, "certificate {number} is invalid: {error}")
            }
            Problem::Certificate(number, error) => {
                write!(f, "certificate {number} is invalid: {error}")
            }
            Problem::Key(rustls::Error::General(error)) => f.write_str(error),
            Problem::Key(error) => error.fmt(f),
            Problem::Verifier(error) => error.fmt(f),
            #[cfg(feature = "_https")]
            Problem::NoAuthorities(None) => f.write_str("the system has no authorities"),
            #[cfg(feature = "_https")]
            Problem::NoAuthorities(Some(error)) => {
                write!(f, "the system has no authorities: {error}")
            }
        }
    }
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.problem {
            Problem::Certificate(_, error) | Problem::Key(error) => Some(error),
            Problem::Verifier(error) => Some(error),
            #[cfg(feature = "_https")]
            Problem::NoAuthorities(Some(error)) => Some(error),
            _ => None,
        }
    }
}

//! The parts of TLS that server and clients share: rustls with ring, a clock, and certificates in PEM.

#[cfg(any(feature = "_https", feature = "redis"))]
mod client;

use std::error::Error;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
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
pub(crate) fn roots(of: &str, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, authority) in certificates(of, pem)?.into_iter().enumerate() {
        roots.add(authority).map_err(|error| TlsError::certificate(of, index, error))?;
    }
    Ok(roots)
}

pub(crate) fn certificates(of: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(TlsError::new(of, "no certificate in the PEM"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(TlsError::pem(of, &error)),
    }
}

/// A certificate or key that cannot be used. The message names it and its problem.
#[derive(Debug)]
pub struct TlsError(String);

impl TlsError {
    pub(crate) fn new(of: &str, problem: impl fmt::Display) -> Self {
        Self(format!("{of}: {problem}"))
    }

    /// The message does not contain the PEM, which may be a key.
    pub(crate) fn pem(of: &str, error: &pem::Error) -> Self {
        let problem = match error {
            pem::Error::MissingSectionEnd { .. } => "the PEM breaks off within a section",
            pem::Error::IllegalSectionStart { .. } => "the PEM has an invalid BEGIN line",
            pem::Error::Base64Decode(_) => "the PEM has a section that is not base64",
            _ => "the PEM cannot be read",
        };
        Self::new(of, problem)
    }

    pub(crate) fn certificate(of: &str, index: usize, error: rustls::Error) -> Self {
        let number = index + 1;
        match error {
            // The text of the error itself is about the certificate of a peer.
            rustls::Error::InvalidCertificate(why) => {
                Self::new(of, format_args!("certificate {number} is invalid: {why}"))
            }
            error => Self::new(of, format_args!("certificate {number} is invalid: {error}")),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for TlsError {}

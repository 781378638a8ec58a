use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::{Clock, Problem, TlsError, provider, roots};

/// The trust store for TLS to another server, such as a database, a Redis or a collector of traces. It
/// speaks TLS 1.2 and 1.3, by rustls.
#[derive(Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Trusts servers that have a certificate for their name from one of these authorities, in PEM. The
    /// authorities of the system are not included. Most systems have them in a file, such as
    /// `/etc/ssl/certs/ca-certificates.crt`.
    ///
    /// # Errors
    /// If the PEM has no certificate, or an invalid one.
    pub fn trusting(authorities: &[u8]) -> Result<Self, TlsError> {
        Ok(Self::with(roots("CA", authorities)?))
    }

    /// Trusts servers that have a certificate for their name from an authority that the system trusts.
    /// The environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR` count, as for OpenSSL.
    ///
    /// # Errors
    /// If the system has no authorities.
    #[cfg(feature = "_https")]
    pub fn trusting_the_system() -> Result<Self, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Invalid authorities, which many systems have, are ignored.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let error = found.errors.into_iter().next();
            return Err(TlsError::new("CA", Problem::NoAuthorities(error)));
        }
        Ok(Self::with(roots))
    }

    /// Trusts servers that have a certificate from one of these authorities, in PEM, for any name. This is
    /// `verify-ca` of PostgreSQL.
    ///
    /// # Errors
    /// If the PEM has no certificate, or an invalid one.
    pub fn trusting_any_name(authorities: &[u8]) -> Result<Self, TlsError> {
        let roots = Arc::new(roots("CA", authorities)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::new(provider()));
        let verifier =
            verifier.build().map_err(|error| TlsError::new("CA", Problem::Verifier(error)))?;
        let mut tls = Self::without_authorities();
        let config = Arc::make_mut(&mut tls.0);
        config.dangerous().set_certificate_verifier(Arc::new(AnyName(verifier)));
        Ok(tls)
    }

    /// Trusts no authority: every handshake fails.
    pub fn without_authorities() -> Self {
        Self::with(RootCertStore::empty())
    }

    fn with(roots: RootCertStore) -> Self {
        let config = ClientConfig::builder_with_details(Arc::new(provider()), Arc::new(Clock))
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites and key exchange groups for TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(Arc::new(config))
    }

    /// Connects to a server by TCP, and does the TLS handshake.
    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + use<>> {
        self.handshake(host, TcpStream::connect((host, port)).await?).await
    }

    /// Does the TLS handshake with a server, and returns the encrypted stream. The server's certificate
    /// has to be for `host`, a name or an address.
    ///
    /// # Errors
    /// If the stream fails; [`io::ErrorKind::InvalidData`] if the server is not trusted.
    pub async fn handshake<S>(
        &self,
        host: &str,
        stream: S,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + use<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(self.0.clone()).connect(name, stream).await
    }
}

/// Without the certificates, of which there may be many.
impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

/// Verifies a certificate without its name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.0.verify_server_cert(certificate, intermediates, name, ocsp_response, now);
        match verified {
            // The name is verified last.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

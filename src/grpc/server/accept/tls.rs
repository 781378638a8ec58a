use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{
    NoClientAuth, NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    self, CertificateError, InconsistentKeys, InvalidMessage, RootCertStore, ServerConfig,
};
use tokio_rustls::server::TlsStream;

use crate::grpc::call::Peer;
use crate::log_throttle::LogThrottle;
use crate::tls::{Clock, Problem, TlsError, certificates, provider, roots};

/// RFC 9113, 3.2: HTTP/2 over TLS.
const ALPN: &[u8] = b"h2";

/// Log lines in one throttle period about failed handshakes. Ten, because several clients may fail
/// for different reasons while one retries all the time.
const FAILED_HANDSHAKES: u32 = 10;

/// The TLS settings of a server, for [`Server::tls`](crate::Server::tls): a certificate with its
/// key, and the check of client certificates.
///
/// rustls provides TLS 1.2 and 1.3. Clients must negotiate HTTP/2 by ALPN, as all gRPC clients do.
///
/// ```no_run
/// use balafon::{ClientCertificate, Router, Server, Tls};
///
/// # fn run(router: Router) -> Result<(), Box<dyn std::error::Error>> {
/// let tls = Tls::from_pem(&std::fs::read("server.pem")?, &std::fs::read("server.key")?)?
///     .client_ca(&std::fs::read("clients.pem")?, ClientCertificate::Required)?;
/// Server::new().tls(tls).run("0.0.0.0:443", router)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tls {
    certified: Arc<CertifiedKey>,
    clients: Option<(ClientCertificate, Arc<dyn ClientCertVerifier>)>,
    tls13_only: bool,
}

/// Whether clients must present a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientCertificate {
    /// Clients without a certificate are accepted. [`Peer::certificates`] shows whether a client
    /// has presented one. An invalid certificate is refused.
    Optional,
    /// Clients without a valid certificate are refused.
    Required,
}

impl Tls {
    /// Creates the settings from a certificate chain and a private key, both in PEM. The chain
    /// begins with the server's certificate, followed by its intermediate certificates. The key is
    /// PKCS#8, PKCS#1 (RSA) or SEC1 (EC), and not encrypted. Other PEM sections are ignored, so one
    /// file may hold both.
    ///
    /// # Errors
    /// If the certificate or the key is missing or unusable, or they do not belong together.
    /// Validity dates and names are not checked; clients check them.
    pub fn from_pem(certificate_chain: &[u8], private_key: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates("certificate chain", certificate_chain)?;
        for (index, certificate) in chain.iter().enumerate() {
            ParsedCertificate::try_from(certificate)
                .map_err(|error| TlsError::certificate("certificate chain", index, error))?;
        }
        let key = PrivateKeyDer::from_pem_slice(private_key).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::new("private key", Problem::NoKey),
            error => TlsError::pem("private key", &error),
        })?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
            let problem = match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    Problem::KeyMismatch
                }
                error => Problem::Key(error),
            };
            TlsError::new("private key", problem)
        })?;
        Ok(Self { certified: Arc::new(certified), clients: None, tls13_only: false })
    }

    /// Requests client certificates that one of these certificate authorities has signed.
    ///
    /// # Errors
    /// If the PEM holds no certificate, or one that cannot be used.
    pub fn client_ca(
        mut self,
        authorities: &[u8],
        certificate: ClientCertificate,
    ) -> Result<Self, TlsError> {
        let roots = roots("client CA", authorities)?;
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider()));
        let builder = match certificate {
            ClientCertificate::Optional => builder.allow_unauthenticated(),
            ClientCertificate::Required => builder,
        };
        let unusable = |error| TlsError::new("client CA", Problem::Verifier(error));
        let verifier = builder.build().map_err(unusable)?;
        self.clients = Some((certificate, verifier));
        Ok(self)
    }

    /// Refuses clients that do not support TLS 1.3.
    #[must_use]
    pub fn tls13_only(mut self) -> Self {
        self.tls13_only = true;
        self
    }

    /// Checks whether the server's certificate is valid at `time`. Names and trust are not checked.
    ///
    /// # Errors
    /// If the certificate has expired at `time`, or is not valid yet.
    pub fn validity(&self, time: SystemTime) -> Result<(), TlsError> {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let Some(certificate) = self.certified.cert.first() else { return Ok(()) };
        let verified = ParsedCertificate::try_from(certificate).and_then(|certificate| {
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &RootCertStore::empty(),
                &[],
                UnixTime::since_unix_epoch(since_epoch),
                provider().signature_verification_algorithms.all,
            )
        });
        // webpki checks the validity dates before the trust anchors, which are empty here.
        match verified {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Err(TlsError::new("certificate chain", Problem::Expired)),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            )) => Err(TlsError::new("certificate chain", Problem::NotYetValid)),
            _ => Ok(()),
        }
    }

    fn config(self) -> ServerConfig {
        let versions: &[_] = if self.tls13_only { &[&TLS13] } else { &[&TLS13, &TLS12] };
        let verifier = self.clients.map_or_else(|| Arc::new(NoClientAuth) as _, |(_, it)| it);
        let mut config = ServerConfig::builder_with_details(Arc::new(provider()), Arc::new(Clock))
            .with_protocol_versions(versions)
            .expect("ring has cipher suites and key exchange groups for TLS 1.2 and 1.3")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // No session resumption: a resumed session keeps the client certificate without verifying
        // it again. gRPC clients also connect too rarely to gain from it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config
    }
}

/// Shows no keys.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = self.clients.as_ref().map(|(certificate, _)| certificate);
        f.debug_struct("Tls").field("client_certificate", &clients).finish_non_exhaustive()
    }
}

/// A [`Tls`] that can be replaced while the server runs, for example when a certificate is renewed.
/// Clones share the same settings.
///
/// ```no_run
/// use balafon::{Router, Server, SharedTls, Tls};
///
/// # fn run(read: fn() -> Tls, router: Router, renewed: std::sync::mpsc::Receiver<()>) -> std::io::Result<()> {
/// let tls = SharedTls::new(read());
/// let server = Server::new().tls(tls.clone());
/// std::thread::spawn(move || {
///     while renewed.recv().is_ok() {
///         tls.replace(read());
///     }
/// });
/// server.run("0.0.0.0:443", router)
/// # }
/// ```
#[derive(Clone)]
pub struct SharedTls {
    config: Arc<RwLock<Arc<ServerConfig>>>,
    failed: Arc<Mutex<LogThrottle>>,
}

impl SharedTls {
    /// For one or more servers.
    pub fn new(tls: Tls) -> Self {
        Self {
            config: Arc::new(RwLock::new(Arc::new(tls.config()))),
            failed: Arc::new(Mutex::new(LogThrottle::new(FAILED_HANDSHAKES))),
        }
    }

    /// Uses `tls` for handshakes that begin from now on. Open connections stay as they are, even if
    /// `tls` would refuse their clients.
    pub fn replace(&self, tls: Tls) {
        let config = Arc::new(tls.config());
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn config(&self) -> Arc<ServerConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs the handshake. Returns the TLS stream and the peer with its certificates. If the
    /// handshake fails, it logs the reason and returns `None`.
    pub(crate) async fn accept<T>(
        &self,
        io: T,
        peer: Arc<Peer>,
    ) -> Option<(TlsStream<T>, Arc<Peer>)>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = match TlsAcceptor::from(self.config()).accept(io).await {
            Ok(stream) => stream,
            // A client that only closes the connection may be a port check.
            Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                tracing::debug!(%peer, %error, "connection closed during the TLS handshake");
                return None;
            }
            Err(error) => {
                if is_not_tls(&error) {
                    self.refused(&peer, "the client does not use TLS, which this port requires");
                } else {
                    self.refused(&peer, &error);
                }
                return None;
            }
        };
        let (_, session) = stream.get_ref();
        // rustls refuses clients that offer only other protocols, but not clients that offer none.
        if session.alpn_protocol() != Some(ALPN) {
            self.refused(&peer, "the client did not ask for h2 by ALPN");
            return None;
        }
        let Some(chain) = session.peer_certificates() else {
            return Some((stream, peer));
        };
        let certificates = chain.iter().map(|der| Bytes::copy_from_slice(der)).collect();
        let peer = Peer { certificates, ..(*peer).clone() };
        Some((stream, Arc::new(peer)))
    }
}

impl SharedTls {
    /// Logs the reason, because the client gets only a TLS alert.
    fn refused(&self, peer: &Peer, why: impl fmt::Display) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).log(|times| {
            tracing::warn!(%peer, times, "TLS handshake failed: {why}");
        });
    }
}

/// Whether the client's first bytes are not a TLS record.
fn is_not_tls(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(error, Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

impl From<Tls> for SharedTls {
    fn from(tls: Tls) -> Self {
        Self::new(tls)
    }
}

/// Shows no keys.
impl fmt::Debug for SharedTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTls").finish_non_exhaustive()
    }
}

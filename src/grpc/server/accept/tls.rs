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
use crate::tls::{Clock, TlsError, certificates, provider, roots};

/// RFC 9113, 3.2: HTTP/2 over TLS.
const ALPN: &[u8] = b"h2";

/// Lines of the log, in some seconds, about clients that fail in their handshakes: there may be
/// several with a different trouble each, and one that tries all the time.
const FAILED_HANDSHAKES: u32 = 10;

/// What a server needs to speak TLS, for [`Server::tls`](crate::Server::tls): a certificate and its
/// key, and whether clients are to have certificates too.
///
/// TLS 1.2 and 1.3 are spoken, by rustls. Clients have to ask for HTTP/2 by ALPN, as all gRPC
/// clients do.
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

/// Whether clients have to have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Clients without one are served too, and [`Peer::certificates`] tells who has one; whoever
    /// shows a bad one is refused.
    Optional,
    /// Nobody is served without one.
    Required,
}

impl Tls {
    /// Takes the server's certificate, followed by those that lead from it towards the authority
    /// that clients know, and the private key of the first: PKCS#8, PKCS#1 (RSA) or SEC1 (EC), not
    /// encrypted. Other sections of the PEM are passed over, so both may come from one file.
    ///
    /// # Errors
    /// If one of them is not there or cannot be used, or the key is not that of the certificate.
    /// Whether the certificate is valid at this time, and for which names, is for clients to judge.
    pub fn from_pem(certificate_chain: &[u8], private_key: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates("certificate chain", certificate_chain)?;
        for (index, certificate) in chain.iter().enumerate() {
            ParsedCertificate::try_from(certificate)
                .map_err(|error| TlsError::certificate("certificate chain", index, error))?;
        }
        let key = PrivateKeyDer::from_pem_slice(private_key).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                TlsError::new("private key", "no private key in the PEM, or an encrypted one")
            }
            error => TlsError::pem("private key", &error),
        })?;
        let certified =
            CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    TlsError::new("private key", "it is not that of the first certificate")
                }
                rustls::Error::General(why) => TlsError::new("private key", why),
                error => TlsError::new("private key", error),
            })?;
        Ok(Self { certified: Arc::new(certified), clients: None, tls13_only: false })
    }

    /// Asks clients for a certificate that one of these authorities has signed.
    ///
    /// # Errors
    /// If there is no certificate in the PEM, or one that cannot be used.
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
        let verifier = builder.build().map_err(|error| TlsError::new("client CA", error))?;
        self.clients = Some((certificate, verifier));
        Ok(self)
    }

    /// Refuses clients that cannot speak TLS 1.3.
    #[must_use]
    pub fn tls13_only(mut self) -> Self {
        self.tls13_only = true;
        self
    }

    /// Whether the server's certificate is valid at `time`, as clients will see it. Nothing else of
    /// what clients look at is looked at.
    ///
    /// # Errors
    /// If it has expired by then, or is not yet valid.
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
        // Its time is what webpki looks at first; that nobody is trusted comes after.
        match verified {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Err(TlsError::new("certificate chain", "the certificate has expired")),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            )) => Err(TlsError::new("certificate chain", "the certificate is not valid yet")),
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
        // A session that is resumed brings the client's certificate along from the time when it was
        // verified; and gRPC clients connect too rarely to gain anything by it.
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
/// The [`Tls`] of a server, which may be replaced while it serves: when a certificate is renewed,
/// say. Clones are the same one.
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
    /// For one server or several.
    pub fn new(tls: Tls) -> Self {
        Self {
            config: Arc::new(RwLock::new(Arc::new(tls.config()))),
            failed: Arc::new(Mutex::new(LogThrottle::new(FAILED_HANDSHAKES))),
        }
    }

    /// Handshakes that begin from now on use `tls`; connections that are open stay as they are,
    /// also those of clients that would not be let in any more.
    pub fn replace(&self, tls: Tls) {
        let config = Arc::new(tls.config());
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn config(&self) -> Arc<ServerConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does the handshake. Gives the connection inside of TLS and its peer, now with certificates;
    /// nothing, but a line in the log, if the client is not to be served.
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
            // Whoever just closes the connection may only look whether somebody listens.
            Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                tracing::debug!(%peer, %error, "a connection was lost in its TLS handshake");
                return None;
            }
            Err(error) => {
                if is_not_tls(&error) {
                    self.refused(&peer, "the client does not speak TLS, and this port TLS alone");
                } else {
                    self.refused(&peer, &error);
                }
                return None;
            }
        };
        let (_, session) = stream.get_ref();
        // rustls refuses those that offer only other protocols, not those that offer none.
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
    /// One line, since the client is told no more than an alert and its operator will ask here.
    fn refused(&self, peer: &Peer, why: impl fmt::Display) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).log(|times| {
            tracing::warn!(%peer, times, "TLS handshake failed: {why}");
        });
    }
}

/// Whether the first bytes of a client are no record of TLS.
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

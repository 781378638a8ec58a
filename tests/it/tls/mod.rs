//! TLS: h2 by ALPN or nothing, client certificates, and handshakes that delay no other connection.

mod expiry;
mod refused;
mod rotation;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use balafon::{Call, ClientCertificate, Interceptor, Next, Outcome, Router, Tls};
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::support::echo::Echo;
use crate::support::log::Log;
use crate::support::peer::Peer;
use crate::support::{TestServer, patiently};

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key.
pub struct Identity {
    pub chain: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        Self::named("authority")
    }

    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { chain, key: key.serialize_pem() }
    }

    pub fn identity(&self) -> Identity {
        self.identity_of("test")
    }

    /// A server identity with this name or address.
    pub fn identity_of(&self, name: &str) -> Identity {
        self.sign(CertificateParams::new([name.to_owned()]).unwrap())
    }

    fn expired(&self) -> Identity {
        let mut params = CertificateParams::new(["test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2001, 2, 1);
        self.sign(params)
    }
}

impl Identity {
    pub fn server(&self) -> Tls {
        Tls::from_pem(self.chain.as_bytes(), self.key.as_bytes()).unwrap()
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()
    }
}

/// The settings of a client.
pub struct Client<'a> {
    trusts: &'a Authority,
    identity: Option<&'a Identity>,
    alpn: &'a [&'a str],
    version: &'static SupportedProtocolVersion,
}

impl<'a> Client<'a> {
    pub fn new(trusts: &'a Authority) -> Self {
        Self { trusts, identity: None, alpn: &["h2"], version: &TLS13 }
    }

    pub fn identity(self, identity: &'a Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    fn alpn(self, alpn: &'a [&'a str]) -> Self {
        Self { alpn, ..self }
    }

    fn version(self, version: &'static SupportedProtocolVersion) -> Self {
        Self { version, ..self }
    }

    pub async fn handshake<T>(&self, io: T) -> std::io::Result<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.trusts.pem.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![identity.der()], key).unwrap()
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        patiently(connector.connect("test".try_into().unwrap(), io)).await
    }

    async fn connect(&self, server: &TestServer) -> Peer {
        self.connect_to(server.addr).await.0
    }

    /// The same, with the server's certificate.
    pub async fn connect_to(&self, addr: SocketAddr) -> (Peer, CertificateDer<'static>) {
        let socket = TcpStream::connect(addr).await.unwrap();
        let stream = self.handshake(socket).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        let certificate = session.peer_certificates().unwrap()[0].clone().into_owned();
        (Peer::over(stream, &h2::client::Builder::new()).await, certificate)
    }

    /// The close of this connection by the server. It must come before any HTTP/2 frame, the first
    /// of which would be SETTINGS.
    async fn refusal(&self, server: &TestServer) -> String {
        self.refusal_from(server.addr).await.1
    }

    /// The same, after the client's own address.
    async fn refusal_from(&self, addr: SocketAddr) -> (SocketAddr, String) {
        let socket = TcpStream::connect(addr).await.unwrap();
        let own = socket.local_addr().unwrap();
        let refusal = match self.handshake(socket).await {
            Err(error) => error.to_string(),
            // With TLS 1.3 the client is done before the server has seen its certificate.
            Ok(mut stream) => match patiently(stream.read(&mut [0; 1])).await {
                Ok(0) => "closed".to_owned(),
                Ok(_) => panic!("the server speaks HTTP/2"),
                Err(error) => error.to_string(),
            },
        };
        (own, refusal)
    }
}

/// Keeps the certificates of the last call's client.
#[derive(Clone, Default)]
struct Certificates(Arc<Mutex<Vec<Bytes>>>);

impl Interceptor for Certificates {
    async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
        *self.0.lock().unwrap() = call.peer().certificates().to_vec();
        next.run(call).await
    }
}

fn router() -> Router {
    Router::new().add(Echo::default().service())
}

async fn serve(tls: Tls) -> TestServer {
    TestServer::start_with(crate::support::server().tls(tls), router()).await
}

async fn assert_served(peer: &mut Peer) {
    assert_eq!(peer.unary("/test.Echo/Unary", "hello").await.messages(), ["hello"]);
}

#[tokio::test]
async fn versions_1_2_and_1_3_serve_calls() {
    let authority = Authority::new();
    for workers in [0, 2] {
        let server = crate::support::server().workers(workers).tls(authority.identity().server());
        let server = TestServer::start_with(server, router()).await;
        for version in [&TLS12, &TLS13] {
            let client = Client::new(&authority).version(version);
            assert_served(&mut client.connect(&server).await).await;
        }
        let client = Client::new(&authority).alpn(&["http/1.1", "h2"]);
        assert_served(&mut client.connect(&server).await).await;
    }
}

#[tokio::test]
async fn version_1_2_can_be_refused() {
    let authority = Authority::new();
    let server = serve(authority.identity().server().tls13_only()).await;
    let refusal = Client::new(&authority).version(&TLS12).refusal(&server).await;
    assert!(refusal.contains("ProtocolVersion"), "{refusal}");
    assert_served(&mut Client::new(&authority).connect(&server).await).await;
}

#[tokio::test]
async fn alpn_without_h2_is_closed() {
    let authority = Authority::new();
    let server = serve(authority.identity().server()).await;
    for version in [&TLS12, &TLS13] {
        let client = Client::new(&authority).version(version);
        let refusal = client.alpn(&["http/1.1"]).refusal(&server).await;
        assert!(refusal.contains("NoApplicationProtocol"), "{refusal}");
        let silent = Client::new(&authority).version(version).alpn(&[]).refusal(&server).await;
        assert!(silent.contains("closed") || silent.contains("close_notify"), "{silent}");
    }
}

#[tokio::test]
async fn plaintext_client_is_closed_alone() {
    let authority = Authority::new();
    let server = serve(authority.identity().server()).await;
    let mut other = Client::new(&authority).connect(&server).await;

    let mut plain = TcpStream::connect(server.addr).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    let _ = patiently(plain.read_to_end(&mut answer)).await;
    const ALERT: u8 = 21;
    assert!(matches!(answer[..], [] | [ALERT, ..]), "{answer:?}");

    assert_served(&mut other).await;
    assert_served(&mut Client::new(&authority).connect(&server).await).await;
}

#[tokio::test]
async fn handshake_delays_neither_other_connections_nor_a_drain() {
    let authority = Authority::new();
    for workers in [0, 1] {
        let server = crate::support::server().workers(workers).tls(authority.identity().server());
        let mut server = TestServer::start_with(server, router()).await;
        let _silent = TcpStream::connect(server.addr).await.unwrap();
        let mut slow = TcpStream::connect(server.addr).await.unwrap();
        slow.write_all(&[22, 3, 1]).await.unwrap();
        assert_served(&mut Client::new(&authority).connect(&server).await).await;
        server.shut_down();
        server.served().await;
    }
}

#[tokio::test]
async fn handshakes_are_limited_per_address() {
    let authority = Authority::new();
    let (log, _guard) = Log::start(tracing::Level::WARN);
    let server =
        crate::support::server().handshakes_per_minute(Some(3)).tls(authority.identity().server());
    let server = TestServer::start_with(server, router()).await;
    let client = Client::new(&authority);
    let mut open = client.connect(&server).await;
    // Failed and unfinished handshakes count too.
    let _silent = TcpStream::connect(server.addr).await.unwrap();
    let refusal = client.alpn(&["http/1.1"]).refusal(&server).await;
    assert!(refusal.contains("NoApplicationProtocol"), "{refusal}");
    for _ in 0..3 {
        let mut closed = TcpStream::connect(server.addr).await.unwrap();
        assert!(!matches!(patiently(closed.read(&mut [0])).await, Ok(1..)));
    }
    assert_eq!(log.text().matches("too many TLS handshakes").count(), 1, "{}", log.text());
    assert_served(&mut open).await;
    // Another address, which Linux has without configuration.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let socket = socket.connect(server.addr).await.unwrap();
    let other = Client::new(&authority).handshake(socket).await.unwrap();
    assert_served(&mut Peer::over(other, &h2::client::Builder::new()).await).await;
}

#[tokio::test(start_paused = true)]
async fn handshakes_of_tls_and_http2_share_one_timeout() {
    let authority = Authority::new();
    let timeout = Duration::from_secs(10);
    let server =
        crate::support::server().handshake_timeout(timeout).tls(authority.identity().server());
    for tls_takes in [None, Some(Duration::from_secs(6))] {
        let started = Instant::now();
        let (client, io) = duplex(16 * 1024);
        let silent = async {
            match tls_takes {
                None => (Some(client), None),
                Some(time) => {
                    sleep(time).await;
                    (None, Client::new(&authority).handshake(client).await.ok())
                }
            }
        };
        let (kept, ()) = tokio::join!(silent, server.serve_connection(io, Arc::new(router())));
        assert_eq!(kept.1.is_some(), tls_takes.is_some());
        assert_eq!(started.elapsed().as_secs(), timeout.as_secs(), "{tls_takes:?}");
    }
}

#[tokio::test]
async fn buffered_records_are_written_when_the_client_reads() {
    let authority = Authority::new();
    // So small that no record fits.
    let (client, io) = duplex(64);
    let server = crate::support::server().tls(authority.identity().server());
    let serving =
        tokio::spawn(async move { server.serve_connection(io, Arc::new(router())).await });
    let stream = Client::new(&authority).handshake(client).await.unwrap();
    let mut peer = Peer::over(stream, &h2::client::Builder::new()).await;
    let text = "t".repeat(300_000);
    for text in ["short", &text, "short"] {
        let mut call = peer.open("/test.Echo/Bidi").await;
        call.message(text, true);
        let (_send, mut recv) = call.split().await.unwrap();
        let mut received = 0;
        while let Some(chunk) = patiently(recv.data()).await {
            let chunk = chunk.unwrap();
            received += chunk.len();
            recv.flow_control().release_capacity(chunk.len()).unwrap();
        }
        assert!(received > text.len());
        assert_eq!(patiently(recv.trailers()).await.unwrap().unwrap()["grpc-status"], "0");
    }
    peer.vanish();
    patiently(serving).await.unwrap();
}

#[tokio::test]
async fn client_certificate_required_must_be_valid() {
    let (authority, stranger) = (Authority::new(), Authority::named("stranger"));
    let tls = authority.identity().server();
    let tls = tls.client_ca(authority.pem.as_bytes(), ClientCertificate::Required).unwrap();
    let seen = Certificates::default();
    let server =
        TestServer::start_with(crate::support::server().tls(tls), router().intercept(seen.clone()))
            .await;
    for version in [&TLS12, &TLS13] {
        let client = || Client::new(&authority).version(version);
        let missing = client().refusal(&server).await;
        assert!(missing.contains("CertificateRequired"), "{missing}");
        let wrong_authority = client().identity(&stranger.identity()).refusal(&server).await;
        assert!(wrong_authority.contains("UnknownCA"), "{wrong_authority}");
        let impostor = client().identity(&Authority::new().identity()).refusal(&server).await;
        assert!(impostor.contains("DecryptError"), "{impostor}");
        let expired = client().identity(&authority.expired()).refusal(&server).await;
        assert!(expired.contains("CertificateExpired"), "{expired}");

        let identity = authority.identity();
        assert_served(&mut client().identity(&identity).connect(&server).await).await;
        assert_eq!(*seen.0.lock().unwrap(), [identity.der().as_ref()]);
    }
}

#[tokio::test]
async fn client_certificate_optional_is_visible_to_interceptors() {
    let (authority, stranger) = (Authority::new(), Authority::named("stranger"));
    let tls = authority.identity().server();
    let tls = tls.client_ca(authority.pem.as_bytes(), ClientCertificate::Optional).unwrap();
    let seen = Certificates::default();
    let server =
        TestServer::start_with(crate::support::server().tls(tls), router().intercept(seen.clone()))
            .await;

    let identity = authority.identity();
    assert_served(&mut Client::new(&authority).identity(&identity).connect(&server).await).await;
    assert_eq!(*seen.0.lock().unwrap(), [identity.der().as_ref()]);
    assert_served(&mut Client::new(&authority).connect(&server).await).await;
    assert!(seen.0.lock().unwrap().is_empty());
    let stranger = stranger.identity();
    let refusal = Client::new(&authority).identity(&stranger).refusal(&server).await;
    assert!(refusal.contains("UnknownCA"), "{refusal}");
}

#[test]
fn errors_name_the_file_and_the_fault() {
    let authority = Authority::new();
    let Identity { chain, key } = &authority.identity();
    let other = authority.identity();
    let section = |kind| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
    let bad_second = chain.clone() + &section("CERTIFICATE");
    let cases = [
        ("", &**key, "certificate chain: no certificate in the PEM"),
        (key, key, "certificate chain: no certificate in the PEM"),
        (&chain[..100], key, "certificate chain: the PEM breaks off within a section"),
        (&bad_second, key, "certificate chain: certificate 2 is invalid: "),
        (chain, "", "private key: no private key in the PEM, or an encrypted one"),
        (chain, chain, "private key: no private key in the PEM, or an encrypted one"),
        (chain, &section("ENCRYPTED PRIVATE KEY"), "private key: no private key in the PEM, or"),
        (chain, &key.replace('M', "?"), "private key: the PEM has a section that is not base64"),
        (chain, &section("PRIVATE KEY"), "private key: failed to parse private key"),
        (chain, &other.key, "private key: does not belong to the first certificate"),
    ];
    for (chain, key, expected) in cases {
        let error = Tls::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}; expected: {expected}");
    }
    for (authorities, expected) in [
        ("", "client CA: no certificate in the PEM"),
        (&section("CERTIFICATE"), "client CA: certificate 1 is invalid: "),
    ] {
        let tls = other.server();
        let error = tls.client_ca(authorities.as_bytes(), ClientCertificate::Required).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}; expected: {expected}");
    }
}

#[test]
fn certificate_and_key_may_share_a_file() {
    let Identity { chain, key } = Authority::new().identity();
    let both = key + &chain;
    assert!(Tls::from_pem(both.as_bytes(), both.as_bytes()).is_ok());
}

#[test]
fn debug_output_shows_no_keys() {
    let authority = Authority::new();
    let tls = authority.identity().server();
    let tls = tls.client_ca(authority.pem.as_bytes(), ClientCertificate::Required).unwrap();
    assert_eq!(format!("{tls:?}"), "Tls { client_certificate: Some(Required), .. }");
    assert!(format!("{:?}", crate::support::server().tls(tls)).contains("SharedTls { .. }"));
}

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::Failure;

/// A socket that does not block, with TLS in it or not.
pub enum Io {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Io {
    /// `stream` still blocks; the handshake is done before it no longer does.
    pub fn new(mut stream: std::net::TcpStream, ca: Option<&Path>) -> Result<Self, Failure> {
        stream.set_nodelay(true)?;
        let session = match ca {
            Some(ca) => Some(handshake(&mut stream, ca)?),
            None => None,
        };
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream);
        Ok(match session {
            Some(session) => Self::Tls(Box::new(StreamOwned::new(session, stream))),
            None => Self::Plain(stream),
        })
    }

    pub fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &mut tls.sock,
        }
    }

    /// Whether a read that left some of its buffer empty has taken all that there was.
    pub fn short_read_is_last(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

fn handshake(stream: &mut std::net::TcpStream, ca: &Path) -> Result<ClientConnection, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    // One cipher for all servers: left to themselves, rustls and Go choose different ones.
    let cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let provider = CryptoProvider { cipher_suites, ..ring::default_provider() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut session = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
    session.set_buffer_limit(None);
    while session.is_handshaking() {
        session.complete_io(stream)?;
    }
    Ok(session)
}

impl Read for Io {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Io {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;

/// The client's end of a connection.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The address.
    pub addr: PeerAddr,
    /// The address as text, for logs. It is formatted once for each connection and read for each
    /// call.
    pub(crate) text: Box<str>,
    pub(crate) certificates: Vec<Bytes>,
}

impl Peer {
    /// A peer without certificates, for tests of interceptors and handlers.
    pub fn new(addr: PeerAddr) -> Self {
        let text = match addr {
            PeerAddr::Tcp(addr) => addr.to_string().into(),
            PeerAddr::Unix => "unix".into(),
            PeerAddr::Memory => "memory".into(),
        };
        Self { addr, text, certificates: Vec::new() }
    }

    /// Sets the certificates, each in DER, the client's own first.
    #[must_use]
    pub fn with_certificates(mut self, certificates: Vec<Bytes>) -> Self {
        self.certificates = certificates;
        self
    }

    /// Returns the address as text: `192.0.2.1:50000`, `[2001:db8::1]:50000`, `unix`, `memory`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the certificates of a TLS client, each in DER. The list is empty if the client sent
    /// none or was not asked for one.
    ///
    /// The first certificate is the client's own: the client has proved that it holds the key, and
    /// the server has verified the certificate against its trust store. The others are the chain
    /// that the client sent, and may be more than needed. They prove nothing by themselves.
    pub fn certificates(&self) -> &[Bytes] {
        &self.certificates
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("addr", &self.addr)
            .field("certificates", &self.certificates.len())
            .finish()
    }
}

/// The address of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerAddr {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A Unix socket on this machine.
    Unix,
    /// In this process, such as a test or a pipe.
    Memory,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

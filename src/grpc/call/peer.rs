use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;

/// The other end of a connection.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Where it is.
    pub addr: PeerAddr,
    /// The address, for logs: it is written once a connection, and read for each call.
    pub(crate) text: Box<str>,
    pub(crate) certificates: Vec<Bytes>,
}

impl Peer {
    /// A peer without certificates, such as a test of an interceptor needs.
    pub fn new(addr: PeerAddr) -> Self {
        let text = match addr {
            PeerAddr::Tcp(addr) => addr.to_string().into(),
            PeerAddr::Unix => "unix".into(),
            PeerAddr::Memory => "memory".into(),
        };
        Self { addr, text, certificates: Vec::new() }
    }

    /// The same peer with these certificates, each in DER, the client's own first.
    #[must_use]
    pub fn with_certificates(mut self, certificates: Vec<Bytes>) -> Self {
        self.certificates = certificates;
        self
    }

    /// The address as text: `192.0.2.1:50000`, `[2001:db8::1]:50000`, `unix`, `memory`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The certificates of a TLS client, each in DER; none if it has not shown any, or was not
    /// asked to.
    ///
    /// The first is the client's own: it has the key, and an authority that the server trusts has
    /// signed it. The others are what the client sent along to show that, perhaps more than was
    /// needed: they prove nothing by themselves.
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

/// Where a peer is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerAddr {
    /// Behind a TCP socket.
    Tcp(SocketAddr),
    /// Behind a Unix socket, on this machine.
    Unix,
    /// In this process: a test or a pipe.
    Memory,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

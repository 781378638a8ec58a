use std::fmt;
use std::io;
use std::task::{Context, Poll};

#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::net::{TcpListener, TcpSocket};

use crate::grpc::call::PeerAddr;
use crate::grpc::server::accept::stream::Stream;
#[cfg(unix)]
use crate::grpc::server::accept::unix_socket::SocketFile;

/// What stands before the path of a Unix socket, as in the names that gRPC clients dial.
#[cfg(unix)]
const UNIX: &str = "unix:";

/// The sockets that a [`Server`](crate::Server) accepts connections from: TCP and Unix, any number
/// of them.
///
/// ```no_run
/// use balafon::{Listeners, Router, Server, shutdown_signal};
///
/// # async fn run(router: Router) -> std::io::Result<()> {
/// let mut listeners = Listeners::new();
/// listeners.bind("0.0.0.0:9090").await?;
/// listeners.bind("unix:/run/greeter.sock").await?;
/// Server::new().serve(listeners, router, shutdown_signal()).await
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Listeners {
    sockets: Vec<Bound>,
    /// Which to ask first: the one after that which was accepted from, so that a busy one does not
    /// keep the others waiting.
    next: usize,
}

#[derive(Debug)]
struct Bound {
    socket: Socket,
    proxies: Option<Proxies>,
}

/// Whose connections begin with a PROXY header.
struct Proxies(Box<dyn Fn(&PeerAddr) -> bool + Send + Sync>);

/// What a connection has come through.
pub(crate) enum Source {
    Direct,
    /// A proxy that is trusted.
    TrustedProxy,
    /// Somebody else, where proxies are wanted.
    Untrusted,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix {
        /// Before the listener, since that is the order in which they are dropped: the file is
        /// known by its inode, which is taken as long as the socket is open.
        _file: Option<SocketFile>,
        listener: UnixListener,
    },
}

impl Listeners {
    /// None: a server with these serves nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on `address` too: HOST:PORT, or `unix:PATH` for a Unix socket that only processes of
    /// this user can connect to ([`bind_unix`](Self::bind_unix)). Of the addresses that a host's
    /// name has it is the first that can be listened on.
    ///
    /// # Errors
    /// If nothing can listen there; the message names the address.
    pub async fn bind(&mut self, address: &str) -> io::Result<()> {
        #[cfg(unix)]
        if let Some(path) = address.strip_prefix(UNIX) {
            return self.bind_unix(path, 0o600).await;
        }
        let bound = bind_tcp(address).await;
        self.add(Socket::Tcp(bound.map_err(|error| cannot_listen(address, &error))?));
        Ok(())
    }

    /// Adds listeners that are bound already, such as a `TcpListener` or a `UnixListener` that the service manager
    /// has passed on.
    pub fn push(&mut self, listeners: impl Into<Self>) {
        self.sockets.extend(listeners.into().sockets);
    }

    fn add(&mut self, socket: Socket) {
        self.sockets.push(Bound { socket, proxies: None });
    }

    /// Wants a header of the PROXY protocol, version 1 or 2, before all else on each connection to the
    /// socket that was bound last: behind a load balancer that passes TCP on, it says where clients
    /// are. `trust` says from where it is believed. Connections of others, and those without a header,
    /// are closed, with a line in the log.
    pub fn proxy_protocol(&mut self, trust: impl Fn(&PeerAddr) -> bool + Send + Sync + 'static) {
        if let Some(last) = self.sockets.last_mut() {
            last.proxies = Some(Proxies(Box::new(trust)));
        }
    }

    /// Listens on a Unix socket too, a file with these permissions: who may write may connect. It
    /// is removed when the server accepts no more connections.
    ///
    /// Clients made with C-core have to set an authority, by the channel's argument
    /// `grpc.default_authority`: the path that they send otherwise is none, and h2 refuses it.
    ///
    /// A socket that is there already is replaced if nobody listens on it, as after a crash.
    /// Between two servers that start in the same moment this is a race, which the last one wins.
    ///
    /// # Errors
    /// If somebody listens there, or something else than a socket has that path, or the file
    /// cannot be made; the message names the path.
    #[cfg(unix)]
    pub async fn bind_unix(
        &mut self,
        path: impl AsRef<std::path::Path>,
        mode: u32,
    ) -> io::Result<()> {
        let path = path.as_ref();
        let bound = SocketFile::bind(path, mode).await;
        let (file, listener) =
            bound.map_err(|error| cannot_listen(&format!("{UNIX}{}", path.display()), &error))?;
        self.add(Socket::Unix { _file: Some(file), listener });
        Ok(())
    }

    /// Where these listen, such as `127.0.0.1:9090` and `unix:/run/greeter.sock`.
    pub fn addresses(&self) -> Vec<String> {
        self.sockets.iter().map(|bound| bound.socket.address()).collect()
    }

    pub(crate) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Stream, PeerAddr, Source)>> {
        let count = self.sockets.len();
        for index in (self.next..count).chain(0..self.next) {
            let Bound { socket, proxies } = &self.sockets[index];
            if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                self.next = (index + 1) % count;
                return Poll::Ready(accepted.map(|(stream, peer)| {
                    let source = match proxies {
                        None => Source::Direct,
                        Some(Proxies(trust)) if trust(&peer) => Source::TrustedProxy,
                        Some(_) => Source::Untrusted,
                    };
                    (stream, peer, source)
                }));
            }
        }
        Poll::Pending
    }
}

impl From<TcpListener> for Listeners {
    fn from(listener: TcpListener) -> Self {
        let mut listeners = Self::new();
        listeners.add(Socket::Tcp(listener));
        listeners
    }
}

/// The socket's file stays where it is.
#[cfg(unix)]
impl From<UnixListener> for Listeners {
    fn from(listener: UnixListener) -> Self {
        let mut listeners = Self::new();
        listeners.add(Socket::Unix { _file: None, listener });
        listeners
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").finish_non_exhaustive()
    }
}

impl Socket {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, PeerAddr)>> {
        match self {
            Self::Tcp(listener) => listener
                .poll_accept(cx)
                .map_ok(|(stream, addr)| (Stream::Tcp(stream), PeerAddr::Tcp(addr))),
            #[cfg(unix)]
            Self::Unix { listener, .. } => listener
                .poll_accept(cx)
                .map_ok(|(stream, _)| (Stream::Unix(stream), PeerAddr::Unix)),
        }
    }

    fn address(&self) -> String {
        let unknown = |_| "unknown".to_owned();
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(unknown, |addr| addr.to_string())
            }
            #[cfg(unix)]
            Self::Unix { listener, .. } => listener.local_addr().map_or_else(unknown, |addr| {
                let path = addr.as_pathname().map(|path| path.display().to_string());
                format!("{UNIX}{}", path.unwrap_or_default())
            }),
        }
    }
}

/// Connections that may wait to be accepted: at the 128 of the standard library, more at once wait a
/// second for their clients to try again.
const BACKLOG: u32 = 1024;

async fn bind_tcp(address: &str) -> io::Result<TcpListener> {
    let mut error = io::ErrorKind::AddrNotAvailable.into();
    for address in tokio::net::lookup_host(address).await? {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

fn listen(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        std::net::SocketAddr::V4(_) => TcpSocket::new_v4()?,
        std::net::SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // As the standard library does: a server that restarts finds its old connections closing.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn cannot_listen(address: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

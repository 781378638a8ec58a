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

/// The prefix of Unix socket paths, as in the target names of gRPC clients.
#[cfg(unix)]
const UNIX: &str = "unix:";

/// The sockets on which a [`Server`](crate::Server) accepts connections. There can be any number of
/// TCP and Unix sockets.
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
    /// The socket to poll first. It is the one after the last that had a connection, so that a busy
    /// socket cannot starve the others.
    next: usize,
}

#[derive(Debug)]
struct Bound {
    socket: Socket,
    proxies: Option<Proxies>,
}

/// Decides which peers are trusted to send PROXY headers.
struct Proxies(Box<dyn Fn(&PeerAddr) -> bool + Send + Sync>);

/// The kind of peer that has opened a connection.
pub(crate) enum Source {
    Direct,
    /// A trusted proxy, which sends a PROXY header.
    TrustedProxy,
    /// An untrusted peer on a listener that expects PROXY headers.
    Untrusted,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix {
        /// Declared before the listener, so that it is dropped first. The file is identified by its
        /// inode, which stays in use while the socket is open.
        _file: Option<SocketFile>,
        listener: UnixListener,
    },
}

impl Listeners {
    /// No listeners. A server without listeners accepts no connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on another address: HOST:PORT, or `unix:PATH` for a Unix socket. Only processes of
    /// this user can connect to that socket ([`bind_unix`](Self::bind_unix) sets other
    /// permissions). If a host name has several addresses, the first one that can be bound is used.
    ///
    /// # Errors
    /// If the address cannot be bound. The message names the address.
    pub async fn bind(&mut self, address: &str) -> io::Result<()> {
        #[cfg(unix)]
        if let Some(path) = address.strip_prefix(UNIX) {
            return self.bind_unix(path, 0o600).await;
        }
        let bound = bind_tcp(address).await;
        self.add(Socket::Tcp(bound.map_err(|error| cannot_listen(address, &error))?));
        Ok(())
    }

    /// Adds bound listeners, such as a `TcpListener` or a `UnixListener` from a service manager.
    pub fn push(&mut self, listeners: impl Into<Self>) {
        self.sockets.extend(listeners.into().sockets);
    }

    fn add(&mut self, socket: Socket) {
        self.sockets.push(Bound { socket, proxies: None });
    }

    /// Requires a PROXY protocol header, version 1 or 2, on each connection of the socket that was
    /// bound last. Use it behind a load balancer that forwards TCP, to see the addresses of the
    /// clients.
    ///
    /// `trust` decides which addresses may send the header. Connections from other addresses, and
    /// connections without a header, are closed and logged.
    pub fn proxy_protocol(&mut self, trust: impl Fn(&PeerAddr) -> bool + Send + Sync + 'static) {
        if let Some(last) = self.sockets.last_mut() {
            last.proxies = Some(Proxies(Box::new(trust)));
        }
    }

    /// Listens on a Unix socket with these file permissions. Users with write permission may
    /// connect. The file is removed when the server stops accepting connections.
    ///
    /// Clients that use gRPC C-core must set the channel argument `grpc.default_authority`. They
    /// otherwise send the path, which is not a valid authority, and h2 refuses it.
    ///
    /// An existing socket file is replaced if no process listens on it, as after a crash. If two
    /// servers start at the same moment, the last one gets the socket.
    ///
    /// # Errors
    /// If another process listens there, the path is not a socket, or the file cannot be created.
    /// The message names the path.
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

    /// The addresses of the listeners, such as `127.0.0.1:9090` and `unix:/run/greeter.sock`.
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

/// The socket's file is not removed.
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

/// The length of the accept queue. With the 128 of the standard library, clients in a burst would
/// retry only after a second.
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
    // As in the standard library: a restarted server can bind while its old connections are
    // closing.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn cannot_listen(address: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

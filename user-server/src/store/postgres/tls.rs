//! TLS to the database, with the same rustls as the server.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

use super::StoreError;
use balafon::ClientTls;

/// The source of the certificate authorities.
pub(super) enum Trust {
    File(PathBuf),
    System,
}

/// How a certificate is verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verify {
    /// An authority has signed it (`verify-ca`).
    Authority,
    /// An authority has signed it, and it matches the host (`verify-full`).
    Full,
}

impl Trust {
    pub(super) fn tls(&self, verify: Verify) -> Result<ClientTls, StoreError> {
        let file = match self {
            Self::File(file) => file,
            Self::System => {
                let cannot = |error| StoreError::internal(format!("sslrootcert=system: {error}"));
                return ClientTls::trusting_the_system().map_err(cannot);
            }
        };
        let cannot = |error: &dyn std::fmt::Display| {
            StoreError::internal(format!("sslrootcert: cannot use {}: {error}", file.display()))
        };
        let pem = fs::read(file).map_err(|error| cannot(&error))?;
        let tls = match verify {
            Verify::Full => ClientTls::trusting(&pem),
            Verify::Authority => ClientTls::trusting_any_name(&pem),
        };
        tls.map_err(|error| cannot(&error))
    }
}

/// TLS for the next connection.
#[derive(Clone)]
pub(super) struct Tls(pub(super) ClientTls);

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Infallible> {
        Ok(Handshake { tls: self.0.clone(), host: host.to_owned() })
    }
}

/// The TLS handshake of a connection.
pub(super) struct Handshake {
    tls: ClientTls,
    host: String,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> TlsConnect<S> for Handshake {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { Ok(Stream(Box::new(self.tls.handshake(&self.host, stream).await?))) })
    }
}

/// An encrypted stream for tokio-postgres.
pub(super) struct Stream(Box<dyn ReadWrite>);

trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for S {}

impl TlsStream for Stream {
    /// The certificate is verified, so a password needs no channel binding.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

//! A plain HTTP/2 client: it sends bytes that a gRPC client would not, and sees frames rather than
//! results.

use std::net::SocketAddr;
use std::sync::Arc;

use balafon::grpc::frame;
use balafon::prost::Message;
use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{PingPong, RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::patiently;

#[derive(Clone)]
pub struct Peer {
    h2: SendRequest<Bytes>,
    connection: Arc<JoinHandle<Result<(), h2::Error>>>,
}

/// An open call: its response and its sending stream.
pub struct Opened {
    response: ResponseFuture,
    pub send: SendStream<Bytes>,
}

/// A whole response.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Peer {
    pub async fn connect(addr: SocketAddr) -> Self {
        let mut builder = h2::client::Builder::new();
        // With the default, h2 treats a hundred small unread answers as an attack.
        builder.data_frame_budget(1 << 20).initial_connection_window_size(1 << 20);
        Self::connect_with(addr, &builder).await
    }

    pub async fn connect_with(addr: SocketAddr, builder: &h2::client::Builder) -> Self {
        Self::over(TcpStream::connect(addr).await.unwrap(), builder).await
    }

    /// A client on an existing connection.
    pub async fn over<T>(io: T, builder: &h2::client::Builder) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::over_with_pings(io, builder).await.0
    }

    /// The same, with a handle to ping the server.
    pub async fn over_with_pings<T>(io: T, builder: &h2::client::Builder) -> (Self, PingPong)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (h2, mut connection) = builder.handshake(io).await.unwrap();
        let ping_pong = connection.ping_pong().unwrap();
        (Self { h2, connection: Arc::new(tokio::spawn(connection)) }, ping_pong)
    }

    /// The way in which the server closes the connection, which has no other user.
    pub async fn closed(self) -> Result<(), h2::Error> {
        drop(self.h2);
        let connection = Arc::into_inner(self.connection).expect("there are no clones");
        patiently(connection).await.unwrap()
    }

    /// Drops the connection without a GOAWAY.
    pub fn vanish(self) {
        self.connection.abort();
    }

    /// Opens a call with the usual headers.
    pub async fn open(&mut self, path: &str) -> Opened {
        self.open_with(request(path)).await
    }

    pub async fn open_with(&mut self, request: http::request::Builder) -> Opened {
        self.try_open(request).await.unwrap()
    }

    pub async fn try_open(&mut self, request: http::request::Builder) -> Result<Opened, h2::Error> {
        let mut h2 = patiently(self.h2.clone().ready()).await?;
        let (response, send) = h2.send_request(request.body(()).unwrap(), false)?;
        Ok(Opened { response, send })
    }

    /// A whole call: sends these bytes and returns the reply.
    pub async fn call(&mut self, request: http::request::Builder, body: Bytes) -> Reply {
        let mut opened = self.open_with(request).await;
        opened.send.send_data(body, true).unwrap();
        opened.reply().await.unwrap()
    }

    pub async fn unary(&mut self, path: &str, message: &str) -> Reply {
        self.call(request(path), framed(message)).await
    }
}

impl Opened {
    pub fn message(&mut self, message: &str, end: bool) {
        self.send.send_data(framed(message), end).unwrap();
    }

    /// The sending stream and, once the headers have arrived, the receiving stream.
    pub async fn split(self) -> Result<(SendStream<Bytes>, RecvStream), h2::Error> {
        Ok((self.send, patiently(self.response).await?.into_body()))
    }

    /// The reply up to the end of the stream; an error if the stream was reset.
    pub async fn reply(self) -> Result<Reply, h2::Error> {
        // Kept, because dropping it would reset the stream at once.
        let _send = self.send;
        let (head, mut recv) = patiently(self.response).await?.into_parts();
        let mut body = BytesMut::new();
        while let Some(chunk) = patiently(recv.data()).await {
            let chunk = chunk?;
            recv.flow_control().release_capacity(chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        let trailers = patiently(recv.trailers()).await?;
        let (status, headers) = (head.status, head.headers);
        Ok(Reply { status, headers, body: body.freeze(), trailers })
    }
}

impl Reply {
    pub fn is_trailers_only(&self) -> bool {
        self.body.is_empty() && self.trailers.is_none()
    }

    /// A field of the trailers, or of the headers in a Trailers-Only reply.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        let trailers = self.trailers.as_ref().unwrap_or(&self.headers);
        assert!(trailers.get_all(name).iter().count() <= 1, "{name} came twice");
        trailers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn grpc_status(&self) -> &str {
        self.trailer("grpc-status").expect("every call ends with a status")
    }

    pub fn messages(&self) -> Vec<String> {
        let plain = self.messages_by(|_| panic!("a message is compressed"));
        plain.into_iter().map(|(_, message)| message).collect()
    }

    /// Each message with a flag: was it compressed?
    pub fn messages_by(&self, decompress: impl Fn(Bytes) -> Bytes) -> Vec<(bool, String)> {
        let mut decoder = frame::FrameDecoder::new(usize::MAX);
        decoder.push(self.body.clone());
        let mut messages = Vec::new();
        while let Some(frame) = decoder.next_frame().unwrap() {
            let payload = frame.payload.into_bytes();
            let payload = if frame.compressed { decompress(payload) } else { payload };
            messages.push((frame.compressed, String::decode(payload).unwrap()));
        }
        decoder.end().unwrap();
        messages
    }
}

/// A request with the headers that every gRPC client sends.
pub fn request(path: &str) -> http::request::Builder {
    Request::post(format!("http://test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

pub fn framed(message: &str) -> Bytes {
    encoded(&message.to_owned())
}

pub fn encoded(message: &impl Message) -> Bytes {
    let mut buffer = BytesMut::new();
    frame::encode(&mut buffer, message, usize::MAX).unwrap();
    buffer.freeze()
}

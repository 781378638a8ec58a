//! Uploads over links with a delay, on the engine. Its windows grow.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use balafon::{Http2, Request, Response, Router, Rpc, Server, Service, Streaming};
use bytes::Bytes;
use h2::SendStream;
use tokio::time::Instant;

use crate::support::link::delayed;
use crate::support::peer::{Peer, framed, request};

const KIB: usize = 1024;

/// The window of a stream before it grows.
const WINDOW: usize = 256 * KIB;

const ONE_WAY: Duration = Duration::from_millis(50);

static UPLOAD: Rpc<String, u64> = Rpc::client_streaming("/test.Uploads/Upload");

/// Counts the bytes of an upload.
fn uploads() -> Router {
    let upload = |_, mut request: Request<Streaming<String>>| async move {
        let mut bytes = 0;
        while let Some(message) = request.message.message().await? {
            bytes += message.len() as u64;
        }
        Ok(Response::new(bytes))
    };
    Router::new()
        .add(Service::builder("test.Uploads", &[], ()).client_streaming(&UPLOAD, upload).build())
}

/// A client over a link with this delay. It can use any window, and all of it arrives at once.
async fn connect(delay: Duration) -> Peer {
    let server = Server::new().http2(Http2::Native);
    let (io, served) = tokio::io::duplex(16 * KIB * KIB);
    tokio::spawn(async move { server.serve_connection(served, Arc::new(uploads())).await });
    let mut builder = h2::client::Builder::new();
    builder.max_send_buffer_size(64 * KIB * KIB);
    Peer::over(delayed(io, delay), &builder).await
}

/// Waits until the client may send more than `bytes`.
async fn until_open(send: &mut SendStream<Bytes>, bytes: usize) {
    send.reserve_capacity(bytes + 1);
    while send.capacity() <= bytes {
        let more = crate::support::patiently(poll_fn(|cx| send.poll_capacity(cx))).await;
        more.expect("the stream is open").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn upload_over_a_long_link_is_not_limited_by_the_first_window() {
    let mut peer = connect(ONE_WAY).await;
    let mut opened = peer.open_with(request(UPLOAD.path)).await;
    let began = Instant::now();
    let (message, count) = (framed(&"x".repeat(16 * KIB)), 512);
    for _ in 0..count {
        until_open(&mut opened.send, message.len() - 1).await;
        opened.send.send_data(message.clone(), false).unwrap();
    }
    let windows = count * message.len() / WINDOW;
    let at_first = 2 * ONE_WAY * u32::try_from(windows).unwrap();
    assert!(began.elapsed() < at_first / 2, "{:?} of {at_first:?}", began.elapsed());
    // The client may have more in flight than it could at first.
    until_open(&mut opened.send, 4 * WINDOW).await;
    opened.send.send_data(Bytes::new(), true).unwrap();
    let reply = opened.reply().await.unwrap();
    assert_eq!(reply.trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test(start_paused = true)]
async fn windows_stay_while_an_upload_is_slow() {
    let mut peer = connect(ONE_WAY).await;
    let mut opened = peer.open_with(request(UPLOAD.path)).await;
    let message = framed(&"x".repeat(16 * KIB));
    for _ in 0..256 {
        until_open(&mut opened.send, message.len() - 1).await;
        opened.send.send_data(message.clone(), false).unwrap();
        // Four messages in a round trip: a quarter of the window.
        tokio::time::sleep(2 * ONE_WAY / 4).await;
    }
    tokio::time::sleep(10 * ONE_WAY).await;
    opened.send.reserve_capacity(4 * WINDOW);
    assert!(opened.send.capacity() <= WINDOW, "{}", opened.send.capacity());
}

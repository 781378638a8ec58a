//! The view that handlers and interceptors have of messages, and messages with faulty code.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use balafon::grpc::frame::FrameDecoder;
use balafon::prost::bytes::{Buf, BufMut};
use balafon::prost::encoding::{DecodeContext, WireType};
use balafon::prost::{DecodeError, Message};
use balafon::{
    Call, CallOptions, Code, Compression, Encoding, MessageEvent, Request, Response, Router, Rpc,
    Service, Sink, Status, Streaming,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::{Notify, mpsc};

use crate::support::peer::{Peer, Reply, framed, request};
use crate::support::{TestServer, patiently};

static BIDI: Rpc<String, String> = Rpc::bidi_streaming("/test.Own/Bidi");

/// A message that does not decode.
const BROKEN: Bytes = Bytes::from_static(&[0, 0, 0, 0, 1, 0xff]);

/// A service with one method, `/test.Own/Bidi`.
async fn serve<T, F, Fut>(state: T, function: F) -> (TestServer, Peer)
where
    T: Send + Sync + 'static,
    F: Fn(Arc<T>, Request<Streaming<String>>, Sink<String>) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Status>> + Send + 'static,
{
    let service = Service::builder("test.Own", &[], state).bidi_streaming(&BIDI, function);
    let server = TestServer::start(Router::new().add(service.build())).await;
    let peer = Peer::connect(server.addr).await;
    (server, peer)
}

// Errors of a stream.

/// Reads on after the error in every way, also after more data has come.
struct Reader {
    seen: mpsc::UnboundedSender<Vec<Status>>,
    failed: Notify,
    go_on: Notify,
}

async fn read_on(stream: &mut Streaming<String>) -> Vec<Status> {
    let first = stream.message().await.unwrap_err();
    let mut into = "from before".to_owned();
    let second = stream.read_into(&mut into).await.unwrap_err();
    assert_eq!(into, "");
    vec![first, second]
}

#[tokio::test]
async fn stream_ends_after_its_first_error() {
    let (seen, mut seen_here) = mpsc::unbounded_channel();
    let reader = Arc::new(Reader { seen, failed: Notify::new(), go_on: Notify::new() });
    let (_server, mut peer) = serve(reader.clone(), |reader, request, _| async move {
        let mut stream = request.into_message();
        assert_eq!(stream.message().await?.as_deref(), Some("before"));
        let mut errors = read_on(&mut stream).await;
        reader.failed.notify_one();
        reader.go_on.notified().await;
        errors.extend(read_on(&mut stream).await);
        // As a `Stream`, it yields the error once and then ends.
        errors.push(stream.next().await.unwrap().unwrap_err());
        assert_eq!(stream.next().await, None);
        errors.extend(read_on(&mut stream).await);
        reader.seen.send(errors).unwrap();
        Ok(())
    })
    .await;
    let flagged = Bytes::from_static(&[7, 0, 0, 0, 0]);
    let compressed = Bytes::from_static(&[1, 0, 0, 0, 1, 0]);
    for fault in [BROKEN, flagged, compressed] {
        let mut call = peer.open("/test.Own/Bidi").await;
        let body = [framed("before"), fault, framed("after")].concat();
        call.send.send_data(body.into(), false).unwrap();
        patiently(reader.failed.notified()).await;
        // Later bytes would be whole messages, with and without a payload.
        let later = [Bytes::from_static(&[0; 5]), framed("later")].concat();
        call.send.send_data(later.into(), true).unwrap();
        // The server has received it before this one.
        peer.unary("/none", "").await;
        reader.go_on.notify_one();
        let errors = patiently(seen_here.recv()).await.unwrap();
        assert_eq!(errors[0].code(), Code::Internal);
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        assert_eq!(call.reply().await.unwrap().grpc_status(), "0");
    }
}

#[tokio::test]
async fn stream_error_is_kept_at_the_calls_end() {
    let (requests, mut stream) = balafon::testing::requests::<String>();
    drop(requests);
    let error = stream.message().await.unwrap_err();
    assert_eq!(error.code(), Code::Cancelled);
    assert_eq!(stream.message().await.unwrap_err(), error);
    assert_eq!(stream.next().await, Some(Err(error)));
    assert_eq!(stream.next().await, None);
}

// Observers.

#[tokio::test]
async fn observer_sees_every_message_from_mid_stream() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (_server, mut peer) = serve(seen.clone(), |seen, mut request, mut out| async move {
        let mut count = 0;
        while let Some(message) = request.message.message().await? {
            out.send(message).await?;
            count += 1;
            if count == 2 {
                let seen = seen.clone();
                request.observe_messages(move |event| {
                    seen.lock().unwrap().push(match event {
                        MessageEvent::Received(bytes) => format!("> {}", text(bytes)),
                        MessageEvent::Sent(bytes) => format!("< {}", text(bytes)),
                        _ => unreachable!(),
                    });
                });
            }
        }
        Ok(())
    })
    .await;
    // They arrive together, so that the stream has all of them when the observer is set.
    let body = ["a", "b", "c", "", "e"].map(framed).concat();
    let reply = peer.call(request("/test.Own/Bidi"), body.into()).await;
    assert_eq!(reply.messages(), ["a", "b", "c", "", "e"]);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen, ["> c", "< c", "> ", "< ", "> e", "< e"]);
}

fn text(message: &[u8]) -> String {
    String::decode(message).unwrap()
}

#[tokio::test]
async fn observer_sees_a_message_before_decoding_fails() {
    let seen = Arc::new(AtomicUsize::new(0));
    let (_server, mut peer) = serve(seen.clone(), |seen, mut request, _| async move {
        let seen = seen.clone();
        request.observe_messages(move |event| {
            if let MessageEvent::Received(bytes) = event {
                seen.fetch_add(bytes.len(), Ordering::Relaxed);
            }
        });
        while request.message.message().await?.is_some() {}
        Ok(())
    })
    .await;
    let body = [framed("abc"), BROKEN, framed("after")].concat();
    let reply = peer.call(request("/test.Own/Bidi"), body.into()).await;
    assert_eq!(reply.grpc_status(), "13");
    assert_eq!(seen.load(Ordering::Relaxed), 5 + 1);
}

// Messages with faulty code.

/// The behaviour of a message when it is encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Odd {
    /// States the first number as its length, and encodes the second number of zeros.
    Lies(usize, usize),
    PanicsForItsLength,
    /// States the second number as its length, and panics after the first number of bytes.
    Panics(usize, usize),
}

impl Default for Odd {
    fn default() -> Self {
        Self::Lies(0, 0)
    }
}

impl Message for Odd {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        match *self {
            Self::Lies(_, writes) => buffer.put_bytes(0, writes),
            Self::PanicsForItsLength => unreachable!(),
            Self::Panics(writes, _) => {
                buffer.put_bytes(0, writes);
                panic!("as asked");
            }
        }
    }

    fn encoded_len(&self) -> usize {
        match *self {
            Self::Lies(length, _) | Self::Panics(_, length) => length,
            Self::PanicsForItsLength => panic!("as asked"),
        }
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: WireType,
        _: &mut impl Buf,
        _: DecodeContext,
    ) -> Result<(), DecodeError> {
        unreachable!("nobody sends it")
    }

    fn clear(&mut self) {}
}

/// Around a DATA frame of 16 KiB, where the way of encoding changes, and far from it.
const ODD: [Odd; 13] = [
    Odd::Lies(3, 0),
    Odd::Lies(3, 2),
    Odd::Lies(3, 4),
    Odd::Lies(0, 1),
    Odd::Lies(16_384, 16_385),
    Odd::Lies(16_385, 16_384),
    Odd::Lies(16_385, 16_386),
    Odd::Lies(3, 100_000),
    Odd::Lies(100_000, 3),
    Odd::Lies(1 << 31, 1),
    Odd::PanicsForItsLength,
    Odd::Panics(1, 2),
    Odd::Panics(20_000, 20_001),
];

const GOOD: [Odd; 4] =
    [Odd::Lies(0, 0), Odd::Lies(3, 3), Odd::Lies(16_384, 16_384), Odd::Lies(16_385, 16_385)];

static ODD_UNARY: Rpc<String, Odd> = Rpc::unary("/test.Odd/Unary");
static ODD_SERVER: Rpc<String, Odd> = Rpc::server_streaming("/test.Odd/Server");

/// Sends the faulty message with this number; the streaming method sends it between valid ones, and
/// then goes on or ends.
fn odd() -> Service {
    Service::builder("test.Odd", &[], ())
        .unary(&ODD_UNARY, |_, request: Request<String>| async move {
            Ok(Response::new(ODD[request.message.parse::<usize>().unwrap()]))
        })
        .server_streaming(
            &ODD_SERVER,
            |_, request: Request<String>, mut out: Sink<Odd>| async move {
                let (number, then) = request.message.split_once(' ').unwrap();
                for good in GOOD {
                    out.send(good).await?;
                    let sent = out.send(ODD[number.parse::<usize>().unwrap()]).await;
                    let error = sent.unwrap_err();
                    assert_eq!(error.code(), Code::Internal);
                    if then != "go on" {
                        return Err(error);
                    }
                }
                Ok(())
            },
        )
        .build()
}

/// The lengths of the messages of a reply, which are zeros.
fn lengths(reply: &Reply) -> Vec<usize> {
    let encoding = reply.headers.get("grpc-encoding").map(|_| Encoding::GZIP);
    let mut decoder = FrameDecoder::new(usize::MAX);
    decoder.push(reply.body.clone());
    let mut lengths = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        let mut bytes = frame.payload.into_bytes();
        if frame.compressed {
            bytes = encoding.unwrap().decompress(&bytes, 1 << 20).unwrap();
        }
        assert!(bytes.iter().all(|byte| *byte == 0));
        lengths.push(bytes.len());
    }
    decoder.end().unwrap();
    lengths
}

#[tokio::test]
async fn failed_encoding_sends_nothing_and_affects_no_other() {
    let compression = Compression::prefer(&[Encoding::GZIP]).min_size(2);
    let server = crate::support::server().calls(CallOptions::new().compression(compression));
    let server = TestServer::start_with(server, Router::new().add(odd())).await;
    let mut peer = Peer::connect(server.addr).await;
    let good = [0, 3, 16_384, 16_385];
    for accepted in ["identity", "gzip"] {
        let head = |path| request(path).header("grpc-accept-encoding", accepted);
        for (number, message) in ODD.iter().enumerate() {
            let reply = peer.call(head("/test.Odd/Unary"), framed(&number.to_string())).await;
            assert_eq!((reply.grpc_status(), reply.body.len()), ("13", 0), "{message:?}");

            let reply = peer.call(head("/test.Odd/Server"), framed(&format!("{number} end"))).await;
            assert_eq!(reply.grpc_status(), "13", "{message:?}");
            assert_eq!(lengths(&reply), good[..1], "{message:?}");

            let reply =
                peer.call(head("/test.Odd/Server"), framed(&format!("{number} go on"))).await;
            assert_eq!(reply.grpc_status(), "0", "{message:?}");
            assert_eq!(lengths(&reply), good, "{message:?}");
        }
    }
}

// Whether a message came compressed.

fn compressed(message: &str) -> Bytes {
    let payload = Encoding::GZIP.compress(&framed(message)[5..]).unwrap();
    let mut frame = BytesMut::new();
    frame.put_u8(1);
    frame.put_u32(payload.len() as u32);
    frame.put_slice(&payload);
    frame.freeze()
}

static OWN_UNARY: Rpc<String, String> = Rpc::unary("/test.Own/Unary");

fn encoding(call: &Call) -> &'static str {
    call.request_encoding().map_or("none", Encoding::name)
}

#[tokio::test]
async fn compression_of_the_message_is_visible_to_handlers() {
    let service = Service::builder("test.Own", &[], ())
        .unary(&OWN_UNARY, |_, request: Request<String>| async move {
            let compressed = request.was_compressed();
            Ok(Response::new(format!("{} {compressed}", encoding(&request))))
        })
        .build();
    let server = TestServer::start(Router::new().add(service)).await;
    let mut peer = Peer::connect(server.addr).await;
    let gzip = || request("/test.Own/Unary").header("grpc-encoding", "gzip");
    let none = || request("/test.Own/Unary");
    let empty = Bytes::from_static(&[1, 0, 0, 0, 0]);
    for (head, body, answer) in [
        (gzip(), compressed("a"), "gzip true"),
        (gzip(), compressed(&"long ".repeat(10_000)), "gzip true"),
        (gzip(), empty, "gzip true"),
        (gzip(), framed("a"), "gzip false"),
        (none(), framed("a"), "none false"),
        (none().header("grpc-encoding", "identity"), framed("a"), "none false"),
    ] {
        assert_eq!(peer.call(head, body).await.messages(), [answer]);
    }
}

#[tokio::test]
async fn compression_of_each_streamed_message_is_visible() {
    let (_server, mut peer) = serve((), |_, mut request, mut out| async move {
        let before = request.message.was_compressed();
        out.send(format!("{} {before}", encoding(&request))).await?;
        while let Some(message) = request.message.message().await? {
            assert_eq!(request.was_compressed(), request.message.was_compressed());
            out.send(format!("{message} {}", request.message.was_compressed())).await?;
        }
        Ok(())
    })
    .await;
    let body = [framed("a"), framed("b"), compressed("c"), framed("d"), compressed("e")].concat();
    let head = request("/test.Own/Bidi").header("grpc-encoding", "gzip");
    let reply = peer.call(head, body.into()).await;
    assert_eq!(
        reply.messages(),
        ["gzip false", "a false", "b false", "c true", "d false", "e true"]
    );
}

#[tokio::test]
async fn compression_is_none_without_a_network() {
    let request = Request::new("hello".to_owned());
    assert!(!request.was_compressed() && request.request_encoding().is_none());
    let mut stream = Streaming::from_messages(["hello".to_owned()]);
    assert!(stream.message().await.unwrap().is_some() && !stream.was_compressed());
}

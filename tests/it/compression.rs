//! Compression of messages, and options of servers, services and methods.

use balafon::services::health::Health;
use balafon::services::reflection;
use balafon::{CallOptions, Code, Compression, Encoding, Router, Server};
use bytes::{BufMut, Bytes, BytesMut};

use crate::support::TestServer;
use crate::support::echo::Echo;
use crate::support::peer::{Peer, Reply, framed, request};

const ENCODINGS: [Encoding; 3] = [Encoding::GZIP, Encoding::DEFLATE, Encoding::ZSTD];

async fn start(server: Server, router: impl FnOnce(Router) -> Router) -> (TestServer, Peer) {
    let router = router(Router::new().add(Echo::default().service()));
    let server = TestServer::start_with(server, router).await;
    let peer = Peer::connect(server.addr).await;
    (server, peer)
}

fn compressed(encoding: Encoding, message: &str) -> Bytes {
    let payload = encoding.compress(&framed(message)[5..]).unwrap();
    let mut frame = BytesMut::new();
    frame.put_u8(1);
    frame.put_u32(payload.len() as u32);
    frame.put_slice(&payload);
    frame.freeze()
}

/// The messages of a reply, each with a flag: was it compressed?
fn messages(reply: &Reply) -> Vec<(bool, String)> {
    let encoding = reply.headers.get("grpc-encoding").map(|name| {
        ENCODINGS.into_iter().find(|encoding| encoding.name() == name.to_str().unwrap()).unwrap()
    });
    reply.messages_by(|payload| encoding.unwrap().decompress(&payload, 1 << 20).unwrap())
}

#[tokio::test]
async fn response_uses_the_requests_encoding_if_accepted() {
    let (_server, mut peer) = start(crate::support::server(), |router| router).await;
    let text = "echo ".repeat(1000);
    for encoding in ENCODINGS {
        let head = request("/test.Echo/Unary")
            .header("grpc-encoding", encoding.name())
            .header("grpc-accept-encoding", format!("identity,{}", encoding.name()));
        let reply = peer.call(head, compressed(encoding, &text)).await;
        assert_eq!(reply.headers["grpc-encoding"], encoding.name());
        assert_eq!(messages(&reply), [(true, text.clone())]);

        let head = request("/test.Echo/Unary").header("grpc-encoding", encoding.name());
        let reply = peer.call(head, compressed(encoding, &text)).await;
        assert!(!reply.headers.contains_key("grpc-encoding"));
        assert_eq!(reply.messages(), [text.as_str()]);
    }
}

#[tokio::test]
async fn supported_encodings_are_advertised() {
    let (_server, mut peer) = start(crate::support::server(), |router| router).await;
    let reply = peer.unary("/test.Echo/Unary", "hello").await;
    assert_eq!(reply.headers["grpc-accept-encoding"], "identity,gzip,deflate,zstd");
}

#[tokio::test]
async fn unaccepted_encodings_are_unimplemented() {
    let server = crate::support::server()
        .calls(CallOptions::new().accept_encodings(&[Encoding::ZSTD, Encoding::GZIP]));
    let (_server, mut peer) = start(server, |router| {
        router
            .configure("test.Echo", CallOptions::new().accept_encodings(&[Encoding::GZIP]))
            .configure("test.Echo/Unary", CallOptions::new().accept_encodings(&[]))
            .add(Health::new().service())
    })
    .await;
    for (path, accepted) in [
        ("/test.Echo/Unary", "identity"),
        ("/test.Echo/Server", "identity,gzip"),
        ("/grpc.health.v1.Health/Check", "identity,gzip,zstd"),
        ("/no.such/Method", "identity,gzip,zstd"),
    ] {
        for encoding in ENCODINGS {
            let head = request(path).header("grpc-encoding", encoding.name());
            // The header alone causes the answer: the message never ends.
            let mut call = peer.open_with(head).await;
            call.send.send_data(Bytes::from_static(&[1, 0, 0, 1, 0]), false).unwrap();
            if accepted.contains(encoding.name()) {
                call.send.send_reset(h2::Reason::CANCEL);
                continue;
            }
            let reply = call.reply().await.unwrap();
            assert_eq!(reply.grpc_status(), "12", "{path} {encoding:?}");
            assert!(reply.is_trailers_only());
            assert_eq!(reply.headers["grpc-accept-encoding"], accepted, "{path}");
            let message = reply.trailer("grpc-message").unwrap();
            assert!(message.ends_with(&format!("wanted one of {accepted}")), "{message}");
        }
        // Uncompressed calls still work, and advertise the same encodings.
        for identity in [request(path), request(path).header("grpc-encoding", "identity")] {
            let reply = peer.call(identity, framed("")).await;
            assert_eq!(reply.headers["grpc-accept-encoding"], accepted, "{path}");
            assert_eq!(reply.grpc_status(), if path == "/no.such/Method" { "12" } else { "0" });
        }
        // A compressed message without an encoding in the header is malformed.
        if path == "/test.Echo/Unary" {
            let reply = peer.call(request(path), compressed(Encoding::GZIP, "x")).await;
            assert_eq!(reply.grpc_status(), "13");
        }
    }
    let head = request("/test.Echo/Server").header("grpc-encoding", "gzip");
    let reply = peer.call(head, compressed(Encoding::GZIP, "hello")).await;
    assert_eq!(messages(&reply), [(false, "hello".into())]);
}

#[tokio::test]
async fn health_and_reflection_receive_only_short_requests() {
    let router = reflection::reflect(Router::new().add(Health::new().service()));
    let server = TestServer::start(router).await;
    let mut peer = Peer::connect(server.addr).await;
    let bomb = "x".repeat(4 << 20);
    for path in [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.health.v1.Health/List",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        for encoding in ENCODINGS {
            let body = compressed(encoding, &bomb);
            assert!(body.len() < 8192, "{}", body.len());
            let head = request(path).header("grpc-encoding", encoding.name());
            assert_eq!(peer.call(head, body).await.grpc_status(), "8", "{path} {encoding:?}");
        }
        assert_eq!(peer.unary(path, &bomb[..4096]).await.grpc_status(), "8", "{path}");
    }
    // Three bytes come before the name: 4 KiB in all.
    let reply = peer.unary("/grpc.health.v1.Health/Check", &bomb[..4093]).await;
    assert_eq!(reply.grpc_status(), "5");
}

#[tokio::test]
async fn small_and_empty_messages_are_sent_plain() {
    let compression = Compression::prefer(&[Encoding::GZIP]).min_size(0);
    let (_server, mut peer) = start(
        crate::support::server().calls(CallOptions::new().compression(compression)),
        |router| {
            router.configure(
                "test.Echo/Server",
                CallOptions::new().compression(compression.min_size(100)),
            )
        },
    )
    .await;
    let accept = |path| request(path).header("grpc-accept-encoding", "gzip");

    let body: Bytes = [framed("some"), framed(""), framed("thing")].concat().into();
    let reply = peer.call(accept("/test.Echo/Bidi"), body).await;
    let expected = [(true, "some".into()), (false, String::new()), (true, "thing".into())];
    assert_eq!(messages(&reply), expected);

    let reply = peer.call(accept("/test.Echo/Server"), framed("small")).await;
    assert_eq!(messages(&reply), [(false, "small".into())]);
}

#[tokio::test]
async fn handler_may_send_a_call_or_message_plain() {
    let compression = Compression::prefer(&[Encoding::GZIP]).min_size(0);
    let (_server, mut peer) = start(
        crate::support::server().calls(CallOptions::new().compression(compression)),
        |router| router,
    )
    .await;
    let head = request("/test.Echo/Unary").header("grpc-accept-encoding", "gzip");
    let reply = peer.call(head, framed("plain call")).await;
    assert!(!reply.headers.contains_key("grpc-encoding"));
    assert_eq!(reply.messages(), ["plain call"]);
    let head = request("/test.Echo/Server").header("grpc-accept-encoding", "gzip");
    let reply = peer.call(head, framed("plain message")).await;
    assert_eq!(reply.headers["grpc-encoding"], "gzip");
    assert_eq!(messages(&reply), [(false, "plain message".into())]);
}

#[tokio::test]
async fn size_limit_bounds_a_message_as_it_inflates() {
    let (_server, mut peer) = start(crate::support::server(), |router| {
        router.configure("test.Echo", CallOptions::new().max_receive_message_size(1000))
    })
    .await;
    for encoding in ENCODINGS {
        let head = request("/test.Echo/Unary").header("grpc-encoding", encoding.name());
        let reply = peer.call(head, compressed(encoding, &"0".repeat(100_000))).await;
        assert_eq!(reply.grpc_status(), "8", "{encoding:?}");
    }
}

#[tokio::test]
async fn broken_compressed_message_is_internal() {
    let (_server, mut peer) = start(crate::support::server(), |router| router).await;
    for encoding in ENCODINGS {
        let head = request("/test.Echo/Unary").header("grpc-encoding", encoding.name());
        let reply = peer.call(head, Bytes::from_static(&[1, 0, 0, 0, 2, 9, 9])).await;
        assert_eq!(reply.grpc_status(), "13", "{encoding:?}");
    }
}

#[tokio::test]
async fn plain_message_in_a_compressed_call_is_read() {
    let (_server, mut peer) = start(crate::support::server(), |router| router).await;
    let head = request("/test.Echo/Unary").header("grpc-encoding", "gzip");
    assert_eq!(peer.call(head, framed("plain")).await.messages(), ["plain"]);
}

#[tokio::test]
async fn mixed_messages_keep_their_order() {
    let (_server, mut peer) = start(crate::support::server(), |router| router).await;
    let long = "long ".repeat(100_000);
    for encoding in ENCODINGS {
        let (zipped, plain) = (|text| compressed(encoding, text), framed);
        let body = [plain("a"), zipped("b"), plain("c"), zipped(&long), plain("e"), plain("f")];
        let head = request("/test.Echo/Bidi").header("grpc-encoding", encoding.name());
        let reply = peer.call(head, body.concat().into()).await;
        assert_eq!(reply.messages(), ["a", "b", "c", &long, "e", "f"], "{encoding:?}");
    }
}

#[tokio::test]
async fn options_of_method_precede_service_and_server() {
    let limit = |bytes| CallOptions::new().max_receive_message_size(bytes);
    let (_server, mut peer) = start(
        crate::support::server().calls(CallOptions::new().max_receive_message_size(30)),
        |router| {
            router
                .add(Health::new().service())
                .configure("test.Echo", limit(20))
                .configure("test.Echo/Unary", limit(10))
        },
    )
    .await;
    for (path, limit) in
        [("/test.Echo/Unary", 10), ("/test.Echo/Server", 20), ("/grpc.health.v1.Health/Check", 30)]
    {
        let mut prefix = vec![0, 0, 0, 0, limit + 1];
        let reply = peer.call(request(path), prefix.clone().into()).await;
        assert_eq!(reply.grpc_status(), "8", "{path}");
        prefix[4] = limit;
        let reply = peer.call(request(path), prefix.into()).await;
        assert_eq!(reply.grpc_status(), (Code::Internal as i32).to_string(), "{path}");
    }
}

#[test]
#[should_panic(expected = "test.Ecko is no service or method")]
fn options_of_unknown_methods_are_refused() {
    let router = Router::new().add(Echo::default().service());
    let _ = router.configure("test.Ecko", CallOptions::new());
}

#[tokio::test]
async fn options_let_a_handler_run_to_completion() {
    let echo = Echo::default();
    let router = Router::new()
        .add(echo.service())
        .configure("test.Echo/Unary", CallOptions::new().run_to_completion(true));
    let server = TestServer::start(router).await;
    let mut peer = Peer::connect(server.addr).await;
    assert_eq!(peer.unary("/test.Echo/Unary", "hello").await.messages(), ["hello"]);
    assert_eq!(peer.unary("/test.Echo/Unary", "panic").await.grpc_status(), "2");

    let head = request("/test.Echo/Unary").header("grpc-timeout", "20m");
    assert_eq!(peer.call(head, framed("until told")).await.grpc_status(), "4");
    echo.until_running(1).await;
    echo.tell();
    echo.until_running(0).await;
}

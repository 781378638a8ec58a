//! The admin endpoint of the program `user-server`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use user_server::pb::user_service;

use crate::support::peer::{Peer, framed, request};
use crate::support::program::{Running, complaint};

/// Starts the program with an admin endpoint and returns that endpoint's address.
pub fn start(arguments: &[&str]) -> (Running, String) {
    let arguments = [&["--workers", "1", "--admin-listen", "127.0.0.1:0"], arguments].concat();
    let running = Running::start(&arguments, &[]);
    let admin = running.admin.clone().expect("the log says where the admin endpoint is");
    (running, admin)
}

/// The whole response to a request with this verb and path.
pub fn http(admin: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nhost: {admin}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn status(admin: &str, request: &str) -> u16 {
    http(admin, request).split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn metrics_are_scraped_as_text() {
    let (running, admin) = start(&[]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    peer.call(request(user_service::GET_USER.path), framed("nobody")).await;
    peer.call(request("/no.Such/Thing"), framed("")).await;
    let answer = http(&admin, "GET /metrics");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let get_user = r#"grpc_method="GetUser",grpc_service="ru.tinkoff.kora.example.UserService",grpc_type="unary""#;
    let unknown = r#"grpc_method="unknown",grpc_service="unknown",grpc_type="bidi_stream""#;
    for line in [
        format!("grpc_server_started_total{{{get_user}}} 1"),
        format!("grpc_server_handled_total{{grpc_code=\"NotFound\",{get_user}}} 1"),
        format!("grpc_server_handled_total{{grpc_code=\"OK\",{get_user}}} 0"),
        format!("grpc_server_msg_received_total{{{get_user}}} 1"),
        format!("grpc_server_msg_sent_total{{{get_user}}} 0"),
        format!("grpc_server_handling_seconds_count{{{get_user}}} 1"),
        format!("grpc_server_handled_total{{grpc_code=\"Unimplemented\",{unknown}}} 1"),
        "grpc_server_connections 1".into(),
        "grpc_server_connections_accepted_total 1".into(),
        "grpc_server_connections_refused_total 0".into(),
    ] {
        assert!(text.lines().any(|there| there == line), "{line} is missing in:\n{text}");
    }
    let bytes = text.lines().find_map(|line| line.strip_prefix("grpc_server_sent_bytes_total "));
    assert!(bytes.unwrap().parse::<u64>().unwrap() > 100, "{bytes:?}");
    assert!(text.contains("\nprocess_start_time_seconds "), "{text}");
}

#[test]
fn lame_duck_is_alive_but_not_ready() {
    let (mut running, admin) = start(&["--lame-duck", "1s"]);
    assert!(http(&admin, "GET /readyz").ends_with("SERVING\n"));
    assert_eq!(status(&admin, "GET /readyz"), 200);
    running.signal("TERM");
    running.line_with("shutting down");
    while status(&admin, "GET /readyz") != 503 {}
    assert!(http(&admin, "GET /readyz").ends_with("NOT_SERVING: the server\n"));
    assert_eq!(status(&admin, "GET /healthz"), 200);
    assert!(running.child.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_leaves_the_endpoint_answering_and_is_not_delayed() {
    let (mut running, admin) = start(&[]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    let mut open = peer.open(user_service::UPDATE_USERS.path).await;
    let in_flight =
        |line: &str| line.starts_with("grpc_server_calls_in_flight") && line.ends_with(" 1");
    while !http(&admin, "GET /metrics").lines().any(in_flight) {}
    let _idle = TcpStream::connect(&admin).unwrap();
    running.signal("TERM");
    running.line_with("shutting down");
    // The drain has begun: the server accepts no new connection.
    while TcpStream::connect(&running.address).is_ok() {}
    assert_eq!(status(&admin, "GET /readyz"), 503);
    assert_eq!(status(&admin, "GET /healthz"), 200);
    open.send.send_data(bytes::Bytes::new(), true).unwrap();
    open.reply().await.unwrap();
    let ended = tokio::task::spawn_blocking(move || running.child.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}

#[test]
fn unknown_paths_and_verbs_have_their_own_statuses() {
    let (_running, admin) = start(&[]);
    let lost = http(&admin, "GET /");
    assert!(lost.starts_with("HTTP/1.1 404") && lost.contains("/metrics"), "{lost}");
    let refused = http(&admin, "POST /metrics");
    assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET, HEAD"));
    assert!(http(&admin, "HEAD /metrics").ends_with("\r\n\r\n"));
    assert_eq!(status(&admin, &format!("GET /{}", "x".repeat(10_000))), 431);
    let version = format!(r#"{{"name":"user-server","version":"{}"}}"#, env!("CARGO_PKG_VERSION"));
    assert!(http(&admin, "GET /version").trim_end().ends_with(&version));
}

#[test]
fn port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = complaint(&["--listen", "127.0.0.1:0", "--admin-listen", &address]);
    assert!(line.contains("--admin-listen") && line.contains(&address), "{line}");
    assert!(complaint(&["--admin-listen", "9091"]).contains("HOST:PORT"));
}

#[test]
fn endpoint_is_off_by_default() {
    assert_eq!(Running::start(&[], &[]).admin, None);
}

//! The program `user-server`, from its flags to its exit code.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::admin::{self, http};
use crate::support::folder::Folder;
use crate::support::peer::{Peer, framed, request};
#[cfg(target_os = "linux")]
use crate::support::program::user_server_under;
use crate::support::program::{Running, complaint, fails, user_server};
use crate::traces::program::end;

const GET_USER: &str = "/ru.tinkoff.kora.example.UserService/GetUser";

#[test]
fn help_shows_how_to_call_the_server() {
    let output = user_server().arg("--help").output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["grpcurl", "--listen", "USER_SERVER_LISTEN", "--store", "--max-batch", "memory:"] {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
}

#[test]
fn port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = complaint(&["--listen", &address]);
    assert!(line.contains(&address) && line.contains("in use"), "{line}");
}

#[test]
fn bad_address_is_one_clear_line() {
    for address in ["9090", "localhost:http", "nowhere.invalid:1"] {
        let line = complaint(&["--listen", address]);
        assert!(line.contains(address), "{line}");
    }
    assert!(complaint(&["--listen", "9090"]).contains("HOST:PORT"));
}

#[test]
fn unknown_store_is_one_clear_line() {
    let line = complaint(&["--store", "floppy:"]);
    assert!(line.contains("floppy:") && line.contains("memory:"), "{line}");
}

#[test]
fn bad_values_are_one_clear_line() {
    assert!(complaint(&["--workers", "0"]).contains("--workers"));
    assert!(complaint(&["--max-batch", "many"]).contains("--max-batch"));
    assert!(complaint(&["--log-format", "xml"]).contains("json"));
    for level in ["a=b=c", "inof", "info,loud"] {
        assert!(complaint(&["--log-level", level]).contains("--log-level"));
    }
}

#[test]
fn unusable_certificate_is_one_clear_line() {
    let cargo_toml = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let line = complaint(&["--tls-cert", "nowhere.pem", "--tls-key", cargo_toml]);
    assert!(line.contains("--tls-cert") && line.contains("nowhere.pem"), "{line}");
    let line = complaint(&["--tls-cert", cargo_toml, "--tls-key", cargo_toml]);
    assert!(line.contains("no certificate in the PEM"), "{line}");
    let line = complaint(&["--tls-cert", cargo_toml]);
    assert!(line.contains("--tls-key"), "{line}");
}

#[test]
fn unknown_flag_is_refused() {
    assert!(String::from_utf8(fails(&["--listn", "x"]).stderr).unwrap().contains("--listen"));
}

#[test]
fn signals_drain_and_exit_with_zero() {
    for signal in ["INT", "TERM"] {
        let mut running = Running::start(&[], &[]);
        running.signal(signal);
        assert!(running.child.wait().unwrap().success());
        running.line_with("drained");
    }
}

/// The health status of the server, asked on a connection of its own.
async fn health(running: &Running) -> bytes::Bytes {
    health_of(running, "").await
}

/// The health status of a service.
async fn health_of(running: &Running, service: &str) -> bytes::Bytes {
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    peer.call(request("/grpc.health.v1.Health/Check"), framed(service)).await.body
}

const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 1];
const NOT_SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 2];

#[tokio::test]
async fn lame_duck_serves_new_connections_before_it_drains() {
    let mut running = Running::start(&["--lame-duck", "2s"], &[]);
    assert_eq!(*health(&running).await, SERVING);
    let signalled = Instant::now();
    running.signal("TERM");
    running.line_with("shutting down");
    while *health(&running).await != NOT_SERVING {}
    // The process lives: a liveness probe must not restart it.
    assert_eq!(*health_of(&running, "liveness").await, SERVING);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    assert_eq!(peer.call(request(GET_USER), framed("nobody")).await.grpc_status(), "5");
    // Runs on another thread, because this one's peer has to answer the GOAWAY.
    let ended = tokio::task::spawn_blocking(move || running.child.wait()).await;
    assert!(ended.unwrap().unwrap().success());
    assert!(signalled.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn second_signal_stops_a_lame_duck_at_once() {
    let mut running = Running::start(&["--lame-duck", "1h"], &[]);
    running.signal("TERM");
    running.line_with("shutting down");
    while *health(&running).await != NOT_SERVING {}
    running.signal("TERM");
    assert_eq!(running.child.wait().unwrap().code(), Some(130));
}

#[cfg(unix)]
#[tokio::test]
async fn sighup_rereads_watched_files_and_ends_nothing() {
    let folder = Folder::new();
    let secret = folder.write("secret", "one secret of more than 32 bytes, I suppose");
    let arguments = ["--auth-secret", &secret, "--auth-allow", "admin=*", "--lame-duck", "1h"];
    let mut running = Running::start(&arguments, &[]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    for n in 0..3 {
        folder.write("secret", format!("another secret of more than 32 bytes, the {n}th"));
        running.signal("HUP");
        running.line_with("SIGHUP: reading");
        running.line_with("reloaded");
        assert_eq!(peer.call(request(GET_USER), framed("nobody")).await.grpc_status(), "16");
    }
    running.signal("TERM");
    running.line_with("shutting down");
    running.signal("HUP");
    running.line_with("SIGHUP: reading");
    assert_eq!(*health_of(&running, "liveness").await, SERVING);
}

#[test]
fn environment_sets_options_without_flags() {
    let environment = [("USER_SERVER_WORKERS", "3"), ("USER_SERVER_LISTEN", "127.0.0.1:1")];
    let running = Running::start(&[], &environment);
    assert_ne!(running.address, "127.0.0.1:1");
}

#[tokio::test]
async fn access_log_has_one_line_for_each_call() {
    let mut running = Running::start(&["--workers", "1"], &[]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    let head = request(GET_USER).header("x-request-id", "abc-123");
    peer.call(head, framed("nobody")).await;
    let line = running.line_with("balafon::access");
    for field in [
        r#""method":"/ru.tinkoff.kora.example.UserService/GetUser""#,
        r#""status":"NOT_FOUND""#,
        r#""error":"User not found""#,
        r#""messages_in":1"#,
        r#""messages_out":0"#,
        r#""correlation_id":"abc-123""#,
        r#""duration_us":"#,
        r#""peer":"127.0.0.1:"#,
    ] {
        assert!(line.contains(field), "{field} is missing in {line}");
    }
}

// Several threads, since this one waits for the log while others close connections.
#[tokio::test(flavor = "multi_thread")]
async fn access_log_names_a_lost_connection() {
    const UPDATE_USERS: &str = "/ru.tinkoff.kora.example.UserService/UpdateUsers";
    const INFO: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const WATCH: &str = "/grpc.health.v1.Health/Watch";
    let (mut running, admin) = admin::start(&[]);
    let address = running.address.parse().unwrap();
    let lost = |line: String| {
        let end = r#""status":"CANCELLED","error":"the connection was lost""#;
        assert!(line.contains(end), "{line}");
    };
    let in_flight =
        |line: &str| line.starts_with("grpc_server_calls_in_flight") && line.ends_with(" 1");
    let wait_for_call = || while !http(&admin, "GET /metrics").lines().any(in_flight) {};
    for path in [WATCH, INFO, UPDATE_USERS] {
        let mut peer = Peer::connect(address).await;
        let mut call = peer.open(path).await;
        if path == WATCH {
            call.send.send_data(vec![0; 5].into(), true).unwrap();
        }
        wait_for_call();
        peer.vanish();
        lost(running.line_with(path));
    }

    // This handler ignores the drain.
    let mut peer = Peer::connect(address).await;
    let _call = peer.open(UPDATE_USERS).await;
    wait_for_call();
    running.signal("TERM");
    running.line_with("shutting down");
    // The drain has begun: the server accepts no new connection.
    while TcpStream::connect(&running.address).is_ok() {}
    peer.vanish();
    lost(running.line_with(UPDATE_USERS));
    assert!(running.child.wait().unwrap().success());
}

#[tokio::test]
async fn log_cuts_client_text_after_256_characters() {
    let running = Running::start(&["--workers", "1", "--log-level", "debug"], &[]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    let long = "x".repeat(2_000);
    let call = request(&format!("/{long}/{long}"))
        .header("x-request-id", &long)
        .header("user-agent", &long)
        .header("traceparent", &long);
    peer.call(call, framed("")).await;
    let foreign = http::Request::post(format!("http://{}/{long}", "a".repeat(2_000)));
    peer.call(foreign, framed("")).await;
    let log = end(running).await;
    for part in ["\"method\":\"/xxx", "\"path\":\"/xxx"] {
        let line = log.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains(&format!("/{}…\"", "x".repeat(254))), "{line}");
    }
    let longest = log.split(|char: char| !matches!(char, 'x' | 'a' | '/')).map(str::len).max();
    assert_eq!(longest, Some(255), "{log}");
}

#[tokio::test]
async fn broken_log_pipe_does_not_stop_the_service() {
    let mut running = Running::start(&["--workers", "1"], &[]);
    drop(running.log.take());
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    let head = || request(GET_USER);
    for _ in 0..2 {
        let reply = peer.call(head(), framed("nobody")).await;
        assert_eq!(reply.grpc_status(), "5");
    }
    running.signal("TERM");
    assert!(running.child.wait().unwrap().success());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn file_descriptor_exhaustion_makes_new_connections_wait() {
    use tokio::net::TcpStream;

    use crate::support::patiently;

    let mut limited = user_server_under("ulimit -n 40");
    limited.args(["--workers", "1"]);
    let mut running = Running::spawn(limited);
    let address = running.address.parse().unwrap();
    let head = || request(GET_USER);

    let mut served = Peer::connect(address).await;
    assert_eq!(served.call(head(), framed("nobody")).await.grpc_status(), "5");
    // The kernel completes them, whether or not the server accepts them.
    let mut idle = Vec::new();
    for _ in 0..80 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    running.line_with("cannot accept connections");

    let before = running.ticks();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = running.ticks() - before;
    assert!(spent < 50, "{spent} ticks of a second in which there is nothing to do");
    assert_eq!(served.call(head(), framed("nobody")).await.grpc_status(), "5");

    drop(idle);
    let mut newcomer = Peer::connect(address).await;
    assert_eq!(patiently(newcomer.call(head(), framed("nobody"))).await.grpc_status(), "5");
    running.signal("TERM");
    assert!(running.child.wait().unwrap().success());
    let complaints =
        running.rest_of_log().lines().filter(|line| line.contains("cannot accept")).count();
    assert!(complaints < 5, "{complaints} more lines about it");
}

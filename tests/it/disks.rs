//! A full disk and a growing write-ahead log, as operators see them.

use std::fs;

use balafon::grpc::frame::encode;
use balafon::prost::Message;
use bytes::BytesMut;
use rusqlite::Connection;
use user_server::pb::{CreateUserRequest, GetUserRequest, UserResponse, user_service};

use crate::admin::{self, http};
use crate::durability::within_mount;
use crate::support::folder::{Folder, text};
use crate::support::health::Health;
use crate::support::patiently;
use crate::support::peer::{Peer, encoded, request};
use crate::support::program::{Running, user_server, user_server_under};

const QUIET: [&str; 2] = ["--log-level", "info,balafon::access=off"];

async fn connect(running: &Running) -> Peer {
    Peer::connect(running.address.parse().unwrap()).await
}

/// Users with the longest names, as many as one stream may have.
async fn create_many(peer: &mut Peer, users: usize) -> String {
    let mut batch = BytesMut::new();
    let user = CreateUserRequest { name: "😀".repeat(200), email: "a@b.co".into() };
    for _ in 0..users {
        encode(&mut batch, &user, usize::MAX).unwrap();
    }
    let reply = peer.call(request(user_service::CREATE_USERS.path), batch.freeze()).await;
    reply.grpc_status().to_owned()
}

async fn create(peer: &mut Peer) -> (String, String) {
    let user = CreateUserRequest { name: "😀".repeat(200), email: "a@b.co".into() };
    let reply = peer.call(request(user_service::CREATE_USER.path), encoded(&user)).await;
    let id =
        reply.body.get(5..).map_or_else(String::new, |body| UserResponse::decode(body).unwrap().id);
    (reply.grpc_status().to_owned(), id)
}

/// The value of a metric without labels.
fn metric(admin: &str, name: &str) -> f64 {
    let text = http(admin, "GET /metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    value.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn full_disk_at_restart_serves_reads() {
    for signal in ["TERM", "KILL"] {
        let folder = Folder::new();
        let store = format!("sqlite:{}", text(&folder.path("users.db")));
        let mut running = Running::start(&["--store", &store], &[]);
        let (_, id) = create(&mut connect(&running).await).await;
        running.signal(signal);
        running.child.wait().unwrap();

        // The same files on a disk without a free byte.
        let here = text(&folder.path(""));
        let disk = text(&folder.path("disk"));
        fs::create_dir(&disk).unwrap();
        let mount = r#"mount -t tmpfs -o size=5m users "$1" && cp "$0"/users.db* "$1" \
            && ! head -c 6m /dev/zero >"$1/other" 2>/dev/null"#;
        let Some(mut command) = within_mount(mount, &[&here, &disk]) else { return };
        let store = format!("sqlite:{disk}/users.db");
        command.arg(user_server().get_program()).args(["--store", &store, QUIET[0], QUIET[1]]);
        let running = Running::spawn(command);
        let mut peer = connect(&running).await;
        let mut health = Health::watch(&mut peer).await;
        // It writes into the remaining room.
        loop {
            let (status, _) = create(&mut peer).await;
            if status != "0" {
                break assert_eq!(status, "8", "{signal}");
            }
        }
        while patiently(health.is_serving()).await {}
        let known = GetUserRequest { user_id: id };
        let reply = peer.call(request(user_service::GET_USER.path), encoded(&known)).await;
        assert_eq!(reply.grpc_status(), "0");

        let other = format!("/proc/{}/root{disk}/other", running.child.id());
        fs::remove_file(other).unwrap();
        while !patiently(health.is_serving()).await {}
        assert_eq!(create(&mut peer).await.0, "0");
    }
}

#[tokio::test]
async fn wal_kept_by_an_outside_reader_is_reported() {
    let folder = Folder::new();
    let store = format!("sqlite:{}", text(&folder.path("users.db")));
    let arguments = ["--store", &store, QUIET[0], QUIET[1]];
    let (mut running, admin) = admin::start(&arguments);
    let mut peer = connect(&running).await;
    assert_eq!(create(&mut peer).await.0, "0");
    let reader = Connection::open(folder.path("users.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM users").unwrap();
    assert_eq!(metric(&admin, "user_store_checkpoint_failing"), 0.0);
    while metric(&admin, "user_store_checkpoint_failing") == 0.0 {
        assert_eq!(create_many(&mut peer, 10_000).await, "0");
    }
    assert!(metric(&admin, "user_store_log_bytes") > f64::from(32 << 20));
    assert!(
        running
            .line_with("checkpoints fail")
            .contains("another program has a long read transaction")
    );
    assert_eq!(create(&mut peer).await.0, "0");
    reader.execute_batch("COMMIT").unwrap();
    while metric(&admin, "user_store_checkpoint_failing") != 0.0 {
        assert_eq!(create(&mut peer).await.0, "0");
    }
    assert!(metric(&admin, "user_store_log_bytes") < f64::from(32 << 20));
    // It was logged once.
    let line = running.line_with("checkpoint");
    assert!(line.contains("checkpoints succeed again"), "{line}");
}

#[tokio::test]
async fn failed_checkpoint_is_logged_once_and_a_metric() {
    let folder = Folder::new();
    let store = format!("sqlite:{}", text(&folder.path("users.db")));
    {
        let running = Running::start(&["--store", &store, QUIET[0], QUIET[1]], &[]);
        let mut peer = connect(&running).await;
        for _ in 0..3 {
            assert_eq!(create_many(&mut peer, 10_000).await, "0");
        }
        running.signal("TERM");
        let mut running = running;
        running.child.wait().unwrap();
    }
    // No file may exceed the database's 24 MiB; the write-ahead log reaches that size later than a
    // copy.
    assert!(folder.path("users.db").metadata().unwrap().len() > 24 << 20);
    let mut command = user_server_under("trap '' XFSZ; ulimit -f 49152");
    command.args(["--admin-listen", "127.0.0.1:0", "--store", &store, QUIET[0], QUIET[1]]);
    let mut running = Running::spawn(command);
    let admin = running.admin.clone().unwrap();
    let mut peer = connect(&running).await;
    while metric(&admin, "user_store_checkpoint_failing") == 0.0 {
        assert_eq!(create_many(&mut peer, 1000).await, "0");
    }
    assert!(running.line_with("checkpoints fail").contains("cannot copy the log"));
    let log = metric(&admin, "user_store_log_bytes");
    assert_eq!(create(&mut peer).await.0, "0");
    assert!(metric(&admin, "user_store_log_bytes") > log);
}

#[tokio::test]
async fn commits_are_metrics() {
    let folder = Folder::new();
    let store = format!("sqlite:{}", text(&folder.path("users.db")));
    let (running, admin) = admin::start(&["--store", &store]);
    let mut peer = connect(&running).await;
    assert_eq!(create(&mut peer).await.0, "0");
    assert_eq!(create_many(&mut peer, 100).await, "0");
    assert!(metric(&admin, "user_store_commit_seconds_sum") > 0.0);
    assert_eq!(metric(&admin, "user_store_commit_users_sum"), 101.0);
    assert_eq!(metric(&admin, "user_store_queue"), 0.0);
    assert!(metric(&admin, "user_store_log_bytes") > 0.0);
}

//! Users survive the program, and the program survives faults of the disk.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use balafon::prost::Message;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use user_server::pb::{CreateUserRequest, GetUserRequest, UserResponse, user_service};

#[cfg(target_os = "linux")]
use crate::admin;
use crate::support::folder::{Folder, text};
#[cfg(target_os = "linux")]
use crate::support::health::Health;
use crate::support::patiently;
use crate::support::peer::{Peer, Reply, encoded, framed, request};
#[cfg(target_os = "linux")]
use crate::support::postgres;
use crate::support::program::{Running, complaint, user_server};

fn store(folder: &Folder) -> String {
    format!("sqlite:{}", text(&folder.path("users.db")))
}

/// For a server whose log is not read.
#[cfg(target_os = "linux")]
const QUIET: [&str; 2] = ["--log-level", "info,balafon::access=off"];

fn start(folder: &Folder) -> Running {
    Running::start(&["--workers", "1", "--store", &store(folder)], &[])
}

async fn create(peer: &mut Peer, name: &str) -> Reply {
    let user = CreateUserRequest { name: name.into(), email: "a@b.co".into() };
    peer.call(request(user_service::CREATE_USER.path), encoded(&user)).await
}

async fn connect(running: &Running) -> Peer {
    Peer::connect(running.address.parse().unwrap()).await
}

#[tokio::test]
async fn users_survive_a_restart_and_a_kill() {
    let folder = Folder::new();
    let mut ids: Vec<String> = Vec::new();
    for round in 0..3 {
        let mut running = start(&folder);
        let mut peer = connect(&running).await;
        for user_id in ids.clone() {
            let known = GetUserRequest { user_id };
            let reply = peer.call(request(user_service::GET_USER.path), encoded(&known)).await;
            assert_eq!(reply.grpc_status(), "0");
        }
        let created = create(&mut peer, "Alice").await;
        ids.push(UserResponse::decode(&created.body[5..]).unwrap().id);
        if round == 0 {
            running.signal("TERM");
            assert!(running.child.wait().unwrap().success());
            // The file alone has all users: it may be copied or moved.
            assert!(!folder.path("users.db-wal").exists());
        }
    }
}

#[test]
fn store_in_use_is_one_clear_line() {
    let folder = Folder::new();
    let _running = start(&folder);
    let line =
        complaint(&["--listen", "127.0.0.1:0", "--log-level", "off", "--store", &store(&folder)]);
    let expected = "users.db is in use by another process";
    assert!(line.contains("--store") && line.contains(expected), "{line}");
}

#[test]
fn store_that_must_exist_is_not_made() {
    let folder = Folder::new();
    let arguments = ["--listen", "127.0.0.1:0", "--log-level", "off", "--store-must-exist", "true"];
    let store_of = |name| ["--store".to_owned(), format!("sqlite:{}", text(&folder.path(name)))];
    for of_store in [store_of("users.db"), ["--store", "memory:"].map(str::to_owned)] {
        let of_store = of_store.each_ref().map(String::as_str);
        let line = complaint(&[&arguments[..], &of_store].concat());
        assert!(line.contains("--store: the store"), "{line}");
        assert!(line.contains("does not exist, and --store-must-exist requires it"), "{line}");
    }
    assert!(files(&folder).is_empty());
    let running = start(&folder);
    assert!(running.before.contains("a new one is created"), "{}", running.before);
    drop(running);
    let running = Running::start(&["--store", &store(&folder), "--store-must-exist", "true"], &[]);
    assert!(!running.before.contains("a new one is created"), "{}", running.before);
}

#[test]
fn store_at_an_impossible_path_is_one_clear_line() {
    let folder = Folder::new();
    fs::create_dir(folder.path("data")).unwrap();
    for (name, why) in
        [("no/users.db", "does not exist; create it"), ("data", "is a folder: use a file in it")]
    {
        let store = format!("sqlite:{}", text(&folder.path(name)));
        let line = complaint(&["--listen", "127.0.0.1:0", "--log-level", "off", "--store", &store]);
        assert!(line.contains("--store") && line.contains(name) && line.contains(why), "{line}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn second_server_is_refused_under_another_name() {
    let folder = Folder::new();
    let running = start(&folder);
    let pid = running.child.id();
    let link = text(&folder.path("link.db"));
    fs::hard_link(folder.path("users.db"), &link).unwrap();
    let other = format!("sqlite:{link}");
    let line = complaint(&["--listen", "127.0.0.1:0", "--log-level", "off", "--store", &other]);
    let holder = format!("is in use by another process: {pid}, which has opened it as");
    assert!(line.contains(&link) && line.contains(&holder), "{line}");
    assert!(line.contains("/users.db"), "{line}");
    let (line, code) = check(user_server(), &other);
    assert!(line.starts_with("warning: --store: ") && line.contains("is in use"), "{line}");
    assert_eq!(code, 0);
    // The first server is not affected.
    let mut peer = connect(&running).await;
    assert_eq!(create(&mut peer, "Alice").await.grpc_status(), "0");
}

/// Needs the right to mount: see the test of a full disk.
#[cfg(target_os = "linux")]
#[test]
fn second_server_is_refused_behind_a_bind_mount() {
    let folder = Folder::new();
    let _running = start(&folder);
    let elsewhere = folder.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let [here, there] = ["users.db", "elsewhere/users.db"].map(|name| text(&folder.path(name)));
    folder.write("elsewhere/users.db", "");
    let mount = r#"mount --bind "$0" "$1""#;
    let Some(mut command) = within_mount(mount, &[&here, &there]) else { return };
    let store = format!("sqlite:{there}");
    let output = command
        .arg(user_server().get_program())
        .args(["--listen", "127.0.0.1:0", "--log-level", "off", "--store", &store])
        .output()
        .unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(line.contains("is in use by another process"), "{line}");
}

/// A command in its own mount namespace, after `mount`, a shell script with these arguments. The
/// caller adds the program and its arguments. `None` without the right to mount, which root has, or
/// a user who may create namespaces.
#[cfg(target_os = "linux")]
#[allow(clippy::print_stderr)] // The reason why a test does not run belongs in its output.
pub fn within_mount(mount: &str, arguments: &[&str]) -> Option<Command> {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        let script = format!("{mount} && {script}");
        command.args(["--map-root-user", "--mount", "sh", "-c", &script]).args(arguments);
        command
    };
    if !unshare("true").status().is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "this takes the right to mount");
        eprintln!("skipped: no right to mount");
        return None;
    }
    let shift = "shift; ".repeat(arguments.len() - 1);
    Some(unshare(&format!(r#"{shift}exec "$@""#)))
}

#[test]
fn file_that_is_no_database_is_one_clear_line() {
    let folder = Folder::new();
    folder.write("users.db", "no database at all ".repeat(100));
    let line =
        complaint(&["--listen", "127.0.0.1:0", "--log-level", "off", "--store", &store(&folder)]);
    assert!(line.contains("--store") && line.contains("file is not a database"), "{line}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_follows_the_database() {
    let Some(database) = tokio::task::spawn_blocking(postgres::own).await.unwrap() else { return };
    let arguments = ["--workers", "1", "--store", &database.database(), QUIET[0], QUIET[1]];
    let running = Running::start(&arguments, &[]);
    let mut peer = connect(&running).await;
    let mut health = Health::watch(&mut peer).await;
    assert_eq!(create(&mut peer, "Alice").await.grpc_status(), "0");
    assert!(patiently(health.is_serving()).await);

    database.stop();
    assert!(!patiently(health.is_serving()).await);
    let refused = create(&mut peer, "Bob").await;
    assert_eq!(refused.grpc_status(), "14");
    assert_eq!(refused.trailer("grpc-message"), Some("the user store is unavailable"));
    let details = refused.trailer("grpc-status-details-bin").unwrap();
    let details = BASE64.decode(details).unwrap();
    let details = balafon::google::rpc::Status::decode(&*details).unwrap();
    assert!(details.details[0].type_url.ends_with("google.rpc.RetryInfo"));

    database.resume();
    assert!(patiently(health.is_serving()).await);
    assert_eq!(create(&mut peer, "Bob").await.grpc_status(), "0");
}

#[cfg(target_os = "linux")]
#[test]
fn moved_file_makes_the_server_not_ready() {
    let folder = Folder::new();
    let (running, admin) = admin::start(&["--store", &store(&folder)]);
    let is_ready = || admin::http(&admin, "GET /readyz").starts_with("HTTP/1.1 200");
    assert!(is_ready());
    // Liveness does not depend on the store: a gRPC liveness probe must not restart the server.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let liveness = || {
        runtime.block_on(async {
            let check = request("/grpc.health.v1.Health/Check");
            connect(&running).await.call(check, framed("liveness")).await.body
        })
    };
    let elsewhere = folder.path("elsewhere");
    for name in ["users.db", "users.db-wal", "users.db-lock"] {
        fs::rename(folder.path(name), &elsewhere).unwrap();
        while is_ready() {}
        assert_eq!(liveness()[..], [0, 0, 0, 0, 2, 8, 1]);
        // An empty file would be a database.
        folder.write(name, "");
        fs::rename(&elsewhere, folder.path(name)).unwrap();
        while !is_ready() {}
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn moved_folder_stops_acknowledgements() {
    let folder = Folder::new();
    let [here, elsewhere] = ["here", "elsewhere"].map(|name| folder.path(name));
    fs::create_dir(&here).unwrap();
    let mut command = user_server();
    // The default path is relative to the working directory of the server.
    command.current_dir(&here).args(["--workers", "1", "--store", "sqlite:users.db"]);
    let running = Running::spawn(command);
    let mut peer = connect(&running).await;
    assert_eq!(create(&mut peer, "Alice").await.grpc_status(), "0");
    fs::rename(&here, &elsewhere).unwrap();
    assert_eq!(create(&mut peer, "Bob").await.grpc_status(), "14");
    fs::rename(&elsewhere, &here).unwrap();
    assert_eq!(create(&mut peer, "Bob").await.grpc_status(), "0");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn health_follows_reads() {
    use std::os::unix::fs::FileExt;

    let folder = Folder::new();
    let mut running = start(&folder);
    create(&mut connect(&running).await, "Alice").await;
    running.signal("TERM");
    assert!(running.child.wait().unwrap().success());

    let running = Running::start(&["--store", &store(&folder), QUIET[0], QUIET[1]], &[]);
    let mut peer = connect(&running).await;
    let mut health = Health::watch(&mut peer).await;
    assert!(health.is_serving().await);
    // All pages but the first, which has the schema.
    let database = fs::File::options().write(true).open(folder.path("users.db")).unwrap();
    let content = fs::read(folder.path("users.db")).unwrap();
    let pages = &content[4096..];
    database.write_all_at(&vec![0x5a; pages.len()], 4096).unwrap();
    assert!(!patiently(health.is_serving()).await);
    database.write_all_at(pages, 4096).unwrap();
    assert!(patiently(health.is_serving()).await);
}

/// The program bound by file modes, which root is not.
#[cfg(target_os = "linux")]
fn user_server_like_anybody() -> Command {
    let plain = user_server();
    let mut command = Command::new("sh");
    let script = r#"[ "$(id -u)" != 0 ] || exec setpriv --bounding-set=-dac_override "$0" "$@"
                    exec "$0" "$@""#;
    command.args(["-c", script]).arg(plain.get_program());
    command
}

#[cfg(target_os = "linux")]
#[test]
fn file_without_write_access_is_one_clear_line() {
    let folder = Folder::new();
    drop(start(&folder));
    let mut modes = fs::metadata(folder.path("users.db")).unwrap().permissions();
    modes.set_readonly(true);
    fs::set_permissions(folder.path("users.db"), modes).unwrap();
    let output = user_server_like_anybody()
        .args(["--listen", "127.0.0.1:0", "--log-level", "off", "--store", &store(&folder)])
        .output()
        .unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(line.contains("readonly") && line.contains("users.db"), "{line}");
}

#[tokio::test]
async fn damaged_user_is_logged_and_counted_in_the_trailers() {
    let folder = Folder::new();
    let mut running = start(&folder);
    let mut peer = connect(&running).await;
    let ids = [create(&mut peer, "Alice").await, create(&mut peer, "Bob").await];
    let ids = ids.map(|reply| UserResponse::decode(&reply.body[5..]).unwrap().id);
    let list = async |peer: &mut Peer| {
        peer.call(request(user_service::GET_ALL_USERS.path), encoded(&())).await
    };
    assert_eq!(list(&mut peer).await.trailer("users-skipped"), None);
    let damage = "UPDATE users SET status = 7 WHERE id = (SELECT min(id) FROM users)";
    rusqlite::Connection::open(folder.path("users.db")).unwrap().execute(damage, []).unwrap();
    let reply = list(&mut peer).await;
    assert_eq!(reply.grpc_status(), "0");
    assert_eq!(reply.headers["users-total"], "2");
    assert_eq!(reply.trailer("users-skipped"), Some("1"));
    assert_eq!(UserResponse::decode(&reply.body[5..]).unwrap().id, ids[1]);
    assert!(
        running
            .line_with("was left out")
            .contains(&format!("user {} has an invalid status", ids[0]))
    );
}

/// The output of `check` for a store, and its exit code.
fn check(mut program: Command, store: &str) -> (String, i32) {
    let output = program.args(["check", "--store", store]).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    (out.lines().last().unwrap().to_owned(), output.status.code().unwrap())
}

/// The contents of all files in the folder; for the index of SQLite's log only its existence.
fn files(folder: &Folder) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder.path("")).unwrap().map(|file| {
        let path = text(&file.unwrap().path());
        let content = if path.ends_with("-shm") { Vec::new() } else { fs::read(&path).unwrap() };
        (path, content)
    });
    files.collect()
}

#[tokio::test]
async fn check_describes_the_store_and_changes_nothing() {
    let folder = Folder::new();
    let found = |suffix: &str| (format!("ok: store {}{suffix}", store(&folder)), 0);
    assert_eq!(check(user_server(), &store(&folder)), found(": would be created"));
    assert_eq!(files(&folder).len(), 0);
    for signal in ["KILL", "TERM"] {
        let mut running = start(&folder);
        create(&mut connect(&running).await, "Alice").await;
        running.signal(signal);
        running.child.wait().unwrap();
        let before = files(&folder);
        assert_eq!(before.keys().any(|path| path.ends_with("-wal")), signal == "KILL");
        assert_eq!(check(user_server(), &store(&folder)), found(""));
        assert!(files(&folder) == before);
    }
    let file = rusqlite::Connection::open(folder.path("users.db")).unwrap();
    file.execute_batch("DROP INDEX users_brought_in").unwrap();
    drop(file);
    set_version(&folder, 3);
    let before = files(&folder);
    assert_eq!(check(user_server(), &store(&folder)), found(": would be migrated"));
    assert!(files(&folder) == before);
}

#[test]
fn check_beside_a_running_server_succeeds() {
    let folder = Folder::new();
    let _running = start(&folder);
    let (line, code) = check(user_server(), &store(&folder));
    assert!(line.starts_with("warning: --store: ") && line.contains("is in use"), "{line}");
    assert_eq!(code, 0);
}

fn set_version(folder: &Folder, version: i64) {
    let file = rusqlite::Connection::open(folder.path("users.db")).unwrap();
    file.pragma_update(None, "user_version", version).unwrap();
}

#[test]
fn check_names_the_setting_of_an_unusable_store() {
    let folder = Folder::new();
    let refused = |store: &str, why: &str| {
        let (line, code) = check(user_server(), store);
        assert!(line.starts_with("error: --store: ") && line.contains(why), "{line}");
        assert_eq!(code, 2);
    };
    refused(&format!("sqlite:{}", text(&folder.path("no/users.db"))), "cannot create");
    drop(start(&folder));
    set_version(&folder, 99);
    refused(&store(&folder), "of a newer program");
    set_version(&folder, 4);
    let content = fs::read(folder.path("users.db")).unwrap();
    let damaged = [&content[..4096], &vec![0x5a; content.len() - 4096]].concat();
    folder.write("users.db", damaged);
    refused(&store(&folder), "malformed");
    folder.write("users.db", "no database at all ".repeat(100));
    refused(&store(&folder), "file is not a database");
}

#[cfg(target_os = "linux")]
#[test]
fn check_reports_missing_write_access() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    drop(start(&folder));
    let set_mode = |name: &str, mode| {
        fs::set_permissions(folder.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode("users.db", 0o400);
    let (line, code) = check(user_server_like_anybody(), &store(&folder));
    assert!(line.starts_with("error: --store: ") && line.contains("readonly"), "{line}");
    assert_eq!(code, 2);
    set_mode("", 0o500);
    let other = format!("sqlite:{}", text(&folder.path("other.db")));
    let (line, code) = check(user_server_like_anybody(), &other);
    assert!(line.starts_with("error: --store: ") && line.contains("cannot create"), "{line}");
    assert_eq!(code, 2);
    set_mode("", 0o700);
}

#[cfg(target_os = "linux")]
#[test]
fn check_queries_the_database_and_changes_nothing() {
    let Some(server) = postgres::shared() else { return };
    let url = server.database();
    let (_, database) = url.rsplit_once('/').unwrap();
    let (line, code) = check(user_server(), &url);
    assert!(line.starts_with("ok: store ") && line.ends_with(": would be created"), "{line}");
    assert_eq!(code, 0);
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(server.run_sql(database, tables).unwrap(), "0\n");

    drop(Running::start(&["--store", &url], &[]));
    let (line, code) = check(user_server(), &url);
    assert!(line.starts_with("ok: store ") && line.ends_with(database), "{line}");
    assert_eq!(code, 0);
    let read_only = format!("ALTER DATABASE {database} SET default_transaction_read_only = on");
    for (sql, finding, why, expected) in [
        (read_only.as_str(), "warning", "is read-only", 0),
        (
            "BEGIN READ WRITE; UPDATE user_schema SET version = 99; COMMIT",
            "error",
            "of a newer program",
            2,
        ),
    ] {
        server.run_sql(database, sql).unwrap();
        let (line, code) = check(user_server(), &url);
        assert!(line.starts_with(&format!("{finding}: --store: ")) && line.contains(why), "{line}");
        assert_eq!(code, expected);
    }
}

#[test]
fn check_does_not_wait_for_a_silent_database() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://me:hunter2@{}/users", silent.local_addr().unwrap());
    let (line, code) = check(user_server(), &url);
    assert!(line.starts_with("error: --store: ") && !line.contains("hunter2"), "{line}");
    assert_eq!(code, 2);
}

/// The disk is a file system of 5 MiB in memory.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn full_disk_refuses_new_users_and_keeps_existing_ones() {
    let folder = Folder::new();
    let disk = text(&folder.path("disk"));
    fs::create_dir(&disk).unwrap();
    let mount = r#"mount -t tmpfs -o size=5m users "$0" && head -c 1m /dev/zero >"$0/other""#;
    let Some(mut command) = within_mount(mount, &[&disk]) else { return };
    let store = format!("sqlite:{disk}/users.db");
    command.arg(user_server().get_program()).args(["--store", &store, QUIET[0], QUIET[1]]);
    let mut running = Running::spawn(command);
    let mut peer = connect(&running).await;
    let mut health = Health::watch(&mut peer).await;
    assert!(health.is_serving().await);
    let name = "😀".repeat(200);
    let mut last = String::new();
    let refused = loop {
        let reply = create(&mut peer, &name).await;
        if reply.grpc_status() != "0" {
            break reply;
        }
        last = UserResponse::decode(&reply.body[5..]).unwrap().id;
    };
    assert_eq!(refused.grpc_status(), "8");
    assert_eq!(refused.trailer("grpc-message"), Some("the user store is full"));
    running.line_with("database or disk is full");
    // There may be room for less than this user.
    loop {
        tokio::select! {
            serving = health.is_serving() => break assert!(!serving),
            _ = create(&mut peer, &name) => {}
        }
    }
    let known = GetUserRequest { user_id: last };
    let reply = peer.call(request(user_service::GET_USER.path), encoded(&known)).await;
    assert_eq!(reply.grpc_status(), "0");

    // In the server's mount namespace.
    fs::remove_file(format!("/proc/{}/root{disk}/other", running.child.id())).unwrap();
    assert!(patiently(health.is_serving()).await);
    assert_eq!(create(&mut peer, &name).await.grpc_status(), "0");
    running.signal("TERM");
    assert!(running.child.wait().unwrap().success());
}

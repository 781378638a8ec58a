//! `user-server backup` and `user-server restore`: the contents of a copy, and that copying loses
//! nothing.

use std::fs;
use std::path::Path;

use balafon::grpc::frame::encode;
use bytes::BytesMut;
use rusqlite::Connection;
use tokio::task::{JoinSet, spawn_blocking};
use user_server::pb::{CreateUserRequest, UserResponse, user_service};

use crate::support::folder::{Folder, text};
use crate::support::peer::{Peer, encoded, request};
use crate::support::program::{Running, user_server};

/// Creates users in one atomic batch.
const BATCH: usize = 16;

/// The output of a command and its exit code.
fn run(store: &str, arguments: &[&str]) -> (String, i32) {
    let output = user_server().args(["--store", store]).args(arguments).output().unwrap();
    let all = [output.stdout, output.stderr].concat();
    (String::from_utf8(all).unwrap(), output.status.code().unwrap())
}

fn store(folder: &Folder) -> String {
    format!("sqlite:{}", text(&folder.path("users.db")))
}

fn start(folder: &Folder) -> Running {
    let quiet = "info,balafon::access=off";
    Running::start(&["--workers", "1", "--store", &store(folder), "--log-level", quiet], &[])
}

async fn connect(running: &Running) -> Peer {
    Peer::connect(running.address.parse().unwrap()).await
}

async fn create(peer: &mut Peer, users: usize) {
    let mut batch = BytesMut::new();
    let user = CreateUserRequest { name: "Alice".into(), email: "a@b.co".into() };
    for _ in 0..users {
        encode(&mut batch, &user, usize::MAX).unwrap();
    }
    let request = request(user_service::CREATE_USERS.path).header("users-batch", "atomic");
    assert_eq!(peer.call(request, batch.freeze()).await.grpc_status(), "0");
}

async fn total(folder: &Folder) -> String {
    let running = start(folder);
    let mut peer = connect(&running).await;
    let reply = peer.call(request(user_service::GET_ALL_USERS.path), encoded(&())).await;
    assert_eq!(reply.grpc_status(), "0");
    reply.headers["users-total"].to_str().unwrap().to_owned()
}

fn count(path: &Path) -> u64 {
    let connection = Connection::open(path).unwrap();
    connection.query_row("SELECT count(*) FROM users", [], |row| row.get::<_, i64>(0)).unwrap()
        as u64
}

fn names(folder: &Folder) -> Vec<String> {
    let names = fs::read_dir(folder.path("")).unwrap();
    let mut names: Vec<_> =
        names.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_under_load_is_a_consistent_snapshot() {
    let folder = Folder::new();
    let running = start(&folder);
    let mut peer = connect(&running).await;
    for _ in 0..8 {
        create(&mut peer, 512 * BATCH).await;
    }
    let mut creators = JoinSet::new();
    for _ in 0..4 {
        let mut peer = connect(&running).await;
        creators.spawn(async move {
            loop {
                create(&mut peer, BATCH).await;
            }
        });
    }
    let source = store(&folder);
    let mut before = count(&folder.path("users.db"));
    for n in 0..3 {
        let copy = folder.path(&format!("copy-{n}.db"));
        let file = text(&copy);
        let of_copy = source.clone();
        let (said, code) = spawn_blocking(move || run(&of_copy, &["backup", &file])).await.unwrap();
        assert_eq!(code, 0, "{said}");
        let copied = count(&copy);
        assert!(
            copied >= before && copied.is_multiple_of(BATCH as u64),
            "{copied} users, {before} before"
        );
        assert!(said.starts_with(&format!("{copied} users, ")), "{said}");
        let after = count(&folder.path("users.db"));
        assert!(after > copied, "nobody has created anything meanwhile");
        before = after;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
    creators.abort_all();
    assert!(names(&folder).iter().all(|name| !name.contains("partial")));
    // The copy is a store of its own, and is never overwritten.
    let copy = text(&folder.path("copy-0.db"));
    let (said, code) = run(&source, &["backup", &copy]);
    assert!(said.contains("copy-0.db exists already") && code == 2, "{said}");
    let (said, code) = run(&format!("sqlite:{copy}"), &["check"]);
    assert_eq!((said.lines().last(), code), (Some(&*format!("ok: store sqlite:{copy}")), 0));
}

#[tokio::test]
async fn restore_after_a_kill_replaces_the_wal() {
    let folder = Folder::new();
    let copy = text(&folder.path("copy.db"));
    {
        let mut running = start(&folder);
        let mut peer = connect(&running).await;
        create(&mut peer, 3).await;
        let (said, code) = run(&store(&folder), &["backup", &copy]);
        assert_eq!(code, 0, "{said}");
        create(&mut peer, 100).await;
        // A served store is not replaced: the server would go on in a file without a name.
        let (said, code) = run(&store(&folder), &["restore", &copy]);
        assert!(said.contains("is in use by another process") && code == 2, "{said}");
        running.signal("KILL");
        running.child.wait().unwrap();
    }
    assert!(folder.path("users.db-wal").metadata().unwrap().len() > 0);
    let (said, code) = run(&store(&folder), &["restore", &copy]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("3 users, "), "{said}");
    assert_eq!(names(&folder), ["copy.db", "users.db", "users.db-lock"]);
    assert_eq!(total(&folder).await, "3");
    // The killed server's users are in no log, not even after a later start.
    assert_eq!(total(&folder).await, "3");
}

#[tokio::test]
async fn backup_of_a_killed_server_includes_its_wal() {
    let folder = Folder::new();
    {
        let mut running = start(&folder);
        create(&mut connect(&running).await, 5).await;
        running.signal("KILL");
        running.child.wait().unwrap();
    }
    let copy = text(&folder.path("copy.db"));
    let (said, code) = run(&store(&folder), &["backup", &copy]);
    assert!(said.starts_with("5 users, ") && code == 0, "{said}");
    assert_eq!(total(&folder).await, "5");
    // To a path without a store.
    let other = Folder::new();
    let (said, code) = run(&store(&other), &["restore", &copy]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(total(&other).await, "5");
}

#[tokio::test]
async fn restore_interrupted_is_completed_at_the_next_start() {
    let folder = Folder::new();
    {
        let mut running = start(&folder);
        let mut peer = connect(&running).await;
        create(&mut peer, 3).await;
        let copy = text(&folder.path("users.db-restored"));
        assert_eq!(run(&store(&folder), &["backup", &copy]).1, 0);
        create(&mut peer, 100).await;
        running.signal("KILL");
        running.child.wait().unwrap();
    }
    assert_eq!(total(&folder).await, "3");
    assert!(!names(&folder).iter().any(|name| name == "users.db-restored"));
}

#[tokio::test]
async fn restore_of_no_backup_leaves_the_store_unchanged() {
    let folder = Folder::new();
    {
        let mut running = start(&folder);
        create(&mut connect(&running).await, 200).await;
        running.signal("TERM");
        running.child.wait().unwrap();
    }
    let other = Folder::new();
    let whole = fs::read(folder.path("users.db")).unwrap();
    let damaged = [&whole[..8192], &vec![0x5a; whole.len() - 8192]].concat();
    let database = other.path("songs.db");
    Connection::open(&database).unwrap().execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    for (file, why) in [
        (text(&other.path("nothing")), "No such file"),
        (other.write("letter", "Dear database, ".repeat(1000)), "not a database"),
        (other.write("empty", ""), "is empty"),
        (other.write("damaged", damaged), "corrupt"),
        (text(&database), "another program"),
        (text(&folder.path("users.db")), "which the restore would replace"),
    ] {
        let (said, code) = run(&store(&folder), &["restore", &file]);
        assert!(said.contains(why) && code == 2, "{file}: {said}");
        assert!(fs::read(folder.path("users.db")).unwrap() == whole, "{file}");
        // No store is made of it either.
        let (_, code) =
            run(&format!("sqlite:{}", text(&folder.path("new.db"))), &["restore", &file]);
        assert!(code == 2 || file.ends_with("users.db"));
    }
    let (said, code) = run("postgres://localhost/users", &["backup", "x"]);
    assert!(said.contains("pg_dump") && code == 2, "{said}");
    assert_eq!(total(&folder).await, "200");
}

#[tokio::test]
async fn backup_under_another_name_is_refused() {
    let folder = Folder::new();
    let running = start(&folder);
    create(&mut connect(&running).await, 5).await;
    let link = text(&folder.path("link.db"));
    fs::hard_link(folder.path("users.db"), &link).unwrap();
    let copy = text(&folder.path("copy.db"));
    let (said, code) = run(&format!("sqlite:{link}"), &["backup", &copy]);
    assert!(said.contains("under the name that the server uses") && code == 2, "{said}");
}

#[tokio::test]
async fn restore_keeps_ids_increasing() {
    let folder = Folder::new();
    let copy = text(&folder.path("copy.db"));
    let mut last = String::new();
    for _ in 0..2 {
        let mut running = start(&folder);
        let mut peer = connect(&running).await;
        let user = CreateUserRequest { name: "Alice".into(), email: "a@b.co".into() };
        let reply = peer.call(request(user_service::CREATE_USER.path), encoded(&user)).await;
        let id = <UserResponse as balafon::prost::Message>::decode(&reply.body[5..]).unwrap().id;
        assert!(id > last);
        last = id;
        let _ = fs::remove_file(&copy);
        assert_eq!(run(&store(&folder), &["backup", &copy]).1, 0);
        running.signal("KILL");
        running.child.wait().unwrap();
        assert_eq!(run(&store(&folder), &["restore", &copy]).1, 0);
    }
}

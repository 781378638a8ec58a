//! Certificates that are renewed while the server serves.

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use balafon::SharedTls;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use user_server::pb::UserService;
use user_server::service::Users;
use user_server::store::memory::MemoryStore;

use super::*;
use crate::support::folder::Folder;
use crate::support::peer::{framed, request};
use crate::support::program::Running;

#[tokio::test]
async fn replaced_certificate_serves_new_connections_and_ends_none() {
    let authority = Authority::new();
    let (old, new) = (authority.identity(), authority.identity());
    let tls = SharedTls::new(old.server());
    for workers in [0, 2] {
        tls.replace(old.server());
        let server = crate::support::server().workers(workers).tls(tls.clone());
        let server = TestServer::start_with(server, router()).await;
        let (mut before, shown) = Client::new(&authority).connect_to(server.addr).await;
        assert_eq!(shown, old.der());
        tls.replace(new.server());
        let (mut after, shown) = Client::new(&authority).connect_to(server.addr).await;
        assert_eq!(shown, new.der());
        assert_served(&mut before).await;
        assert_served(&mut after).await;
    }
}

/// Opens connections and makes a call on each, until `done`; returns their number. No connection
/// may fail.
async fn open_connections(client: &Client<'_>, addr: SocketAddr, done: &Cell<bool>) -> usize {
    let mut opened = 0;
    while !done.get() {
        let (mut peer, _) = client.connect_to(addr).await;
        assert_answers(&mut peer).await;
        opened += 1;
    }
    opened
}

#[tokio::test]
async fn constant_replacement_fails_no_connection() {
    const TIMES: usize = 200;
    let authority = Authority::new();
    let identities = [authority.identity(), authority.identity()];
    let tls = SharedTls::new(identities[0].server());
    let users = Users::new(MemoryStore::new()).into_service();
    let server = crate::support::server().workers(2).tls(tls.clone());
    let server = TestServer::start_with(server, Router::new().add(users)).await;
    let (client, done) = (Client::new(&authority), Cell::new(false));
    let replacing = async {
        for identity in identities.iter().cycle().take(TIMES) {
            tls.replace(identity.server());
            let (_, shown) = client.connect_to(server.addr).await;
            assert_eq!(shown, identity.der());
        }
        done.set(true);
    };
    let load = || open_connections(&client, server.addr, &done);
    let ((), a, b) = tokio::join!(replacing, load(), load());
    assert!(a + b >= TIMES / 2, "{a} and {b} connections in {TIMES} replacements");
}

#[tokio::test]
async fn renewed_files_fail_no_connection() {
    let authority = Authority::new();
    let identities = [authority.identity(), authority.identity()];
    let mut program = Rotating::start(&identities[0]);
    let (client, done, addr) = (Client::new(&authority), Cell::new(false), program.addr());
    let replacing = async {
        for identity in identities.iter().rev().cycle().take(3) {
            program.write(identity);
            // In another thread, since reading the log blocks.
            program = spawn_blocking(move || {
                program.running.line_with("the files have changed");
                program
            })
            .await
            .unwrap();
            assert_eq!(client.connect_to(addr).await.1, identity.der());
        }
        done.set(true);
        program // which ends when it is dropped
    };
    let load = || open_connections(&client, addr, &done);
    let (_program, a, b) = tokio::join!(replacing, load(), load());
    assert!(a > 0 && b > 0);
}

#[test]
fn certificate_is_judged_by_the_current_time() {
    let authority = Authority::new();
    let at = |seconds| std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    let year = 365 * 24 * 3600;
    let tls = authority.expired().server();
    assert!(tls.validity(at(30 * year)).unwrap_err().to_string().ends_with("not valid yet"));
    assert!(tls.validity(at(31 * year + 20 * 24 * 3600)).is_ok());
    assert!(tls.validity(at(40 * year)).unwrap_err().to_string().ends_with("has expired"));
    // The validity of the chain does not matter here.
    assert!(authority.identity().server().validity(at(50 * year)).is_ok());
}

/// The program with files that can be replaced.
struct Rotating {
    running: Running,
    cert: PathBuf,
    key: PathBuf,
    _folder: Folder,
}

impl Rotating {
    fn start(identity: &Identity) -> Self {
        let folder = Folder::new();
        let cert = folder.write("server.pem", &identity.chain);
        let key = folder.write("server.key", &identity.key);
        let running = Running::start(&["--tls-cert", &cert, "--tls-key", &key], &[]);
        Self { running, cert: cert.into(), key: key.into(), _folder: folder }
    }

    fn addr(&self) -> SocketAddr {
        self.running.address.parse().unwrap()
    }

    fn write(&self, identity: &Identity) {
        fs::write(&self.cert, &identity.chain).unwrap();
        fs::write(&self.key, &identity.key).unwrap();
    }
}

async fn assert_answers(peer: &mut Peer) {
    let get_user = request("/ru.tinkoff.kora.example.UserService/GetUser");
    assert_eq!(peer.call(get_user, framed("nobody")).await.grpc_status(), "5");
}

#[tokio::test]
async fn renewed_files_are_loaded_without_dropping_connections() {
    let authority = Authority::new();
    let (old, new) = (authority.identity(), authority.identity());
    let mut program = Rotating::start(&old);
    let client = Client::new(&authority);
    let (mut before, shown) = client.connect_to(program.addr()).await;
    assert_eq!(shown, old.der());
    program.write(&new);
    program.running.line_with("the files have changed");
    let (mut after, shown) = client.connect_to(program.addr()).await;
    assert_eq!(shown, new.der());
    assert_answers(&mut before).await;
    assert_answers(&mut after).await;
}

#[tokio::test]
async fn unusable_files_leave_the_old_ones_in_use() {
    let authority = Authority::new();
    let (old, new) = (authority.identity(), authority.identity());
    let mut program = Rotating::start(&old);
    let client = Client::new(&authority);
    let (mut before, _) = client.connect_to(program.addr()).await;
    let kept = "the previous files stay in use";

    // The key of another certificate, as in the moment between two writes.
    fs::write(&program.cert, &new.chain).unwrap();
    let line = program.running.line_with(kept);
    assert!(line.contains("does not belong to the first certificate"), "{line}");
    assert_eq!(client.connect_to(program.addr()).await.1, old.der());

    fs::write(&program.cert, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    let line = program.running.line_with(kept);
    assert!(line.contains("the PEM breaks off within a section"), "{line}");

    program.write(&authority.expired());
    assert!(program.running.line_with(kept).contains("has expired"));

    fs::remove_file(&program.key).unwrap();
    assert!(program.running.line_with(kept).contains("cannot read"));
    assert_eq!(client.connect_to(program.addr()).await.1, old.der());

    // Long enough for another complaint.
    sleep(Duration::from_millis(2500)).await;
    program.write(&new);
    let line = program.running.line_with("TLS: ");
    assert!(line.contains("the files have changed"), "{line}");
    assert_eq!(client.connect_to(program.addr()).await.1, new.der());
    assert_answers(&mut before).await;
}

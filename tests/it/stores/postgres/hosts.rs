//! Several hosts, silent hosts, and read-only hosts.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, TcpStream};
use user_server::store::postgres::{Options, PostgresStore};
use user_server::store::{Found, UserStore};

use super::{InDatabase, Place, alice};
use crate::admin::http;
use crate::support::patiently;
use crate::support::peer::{Peer, encoded, request};
use crate::support::postgres::Postgres;
use crate::support::program::{Running, user_server};

/// The store's timeout for each address, unless the URL sets another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A host that accepts connections and never answers.
fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// The same database, reached through these ports.
fn by_way_of(url: &str, ports: &[u16]) -> String {
    let (_, name) = url.rsplit_once('/').unwrap();
    let (name, _) = name.split_once('?').unwrap_or((name, ""));
    let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("postgres://tests@{}/{name}", hosts.join(","))
}

#[tokio::test]
async fn silent_first_host_costs_one_connect_timeout() {
    let Some(mut place) = InDatabase::new().await else { return };
    let (_listener, port) = silent();
    place.options.url = by_way_of(&place.options.url, &[port, place.server.port()]);
    let started = Instant::now();
    assert_eq!(PostgresStore::inspect(&place.options).await.unwrap(), Found::Nothing);
    let store = place.open().await;
    for _ in 0..10 {
        store.create(alice()).await.unwrap();
        store.extent().await.unwrap();
    }
    // One timeout for the check, one for the start: other connections go to the host that was
    // found.
    assert!(started.elapsed() < 3 * CONNECT_TIMEOUT, "{:?}", started.elapsed());
}

#[tokio::test]
async fn unreachable_first_host_costs_one_connect_timeout() {
    let Some(mut place) = InDatabase::new().await else { return };
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Fills the queue of the listener; the next connection gets no answer.
    let mut waiting = Vec::new();
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        waiting.push(connected.unwrap());
    }
    place.options.url = by_way_of(&place.options.url, &[address.port(), place.server.port()]);
    let started = Instant::now();
    place.open().await.create(alice()).await.unwrap();
    assert!(started.elapsed() < 2 * CONNECT_TIMEOUT, "{:?}", started.elapsed());
}

#[tokio::test]
async fn connect_timeout_of_the_url_applies() {
    let (_listener, port) = silent();
    for (parameters, timeout) in [("", 2), ("?connect_timeout=1", 1), ("?connect_timeout=4", 4)] {
        let url = format!("postgres://me:hunter2@127.0.0.1:{port}/users{parameters}");
        let options = Options { url, tls: None, connections: 1 };
        let started = Instant::now();
        let error = PostgresStore::connect(&options).await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
        assert!(error.to_string().contains(&format!("no answer within {timeout}s")), "{error}");
        assert_eq!(started.elapsed().as_secs(), timeout);
    }
}

#[tokio::test]
async fn unusable_hosts_are_all_named() {
    let (_listener, port) = silent();
    let url = format!("postgres://me:hunter2@127.0.0.1:1,127.0.0.1:{port},nowhere.invalid/users");
    let options = Options { url, tls: None, connections: 1 };
    let error = InDatabase::refusal(&options).await;
    for part in ["127.0.0.1:1: error connecting", "no answer within 2s", "look up nowhere.invalid"]
    {
        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
    }
}

/// A database, and a standby that follows it.
async fn with_standby() -> Option<(InDatabase, Arc<Postgres>)> {
    let mut place = InDatabase::alone().await?;
    let primary = place.server.clone();
    let standby = tokio::task::spawn_blocking(move || primary.standby()).await.unwrap();
    let ports = [place.server.port(), standby.port()];
    place.options.url = by_way_of(&place.options.url, &ports);
    Some((place, standby))
}

/// Waits until a standby has all created users.
async fn follows(standby: &Arc<Postgres>, place: &InDatabase, users: u64) {
    let (_, database) = place.options.url.rsplit_once('/').unwrap();
    let (standby, database) = (standby.clone(), database.to_owned());
    let wait = tokio::task::spawn_blocking(move || {
        while standby.run_sql(&database, "SELECT count(*) FROM users") != Ok(format!("{users}\n")) {
        }
    });
    patiently(wait).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_to_a_promoted_standby_takes_5_s() {
    let Some((place, standby)) = with_standby().await else { return };
    let store = place.open().await;
    let id = store.create(alice()).await.unwrap().id;
    // More connections than the one that the probe notices.
    futures_util::future::try_join_all((0..8).map(|_| store.get(id))).await.unwrap();
    follows(&standby, &place, 1).await;
    let mut available = store.availability();

    place.server.freeze();
    let stopped = Instant::now();
    let promoted = standby.clone();
    tokio::task::spawn_blocking(move || promoted.promote()).await.unwrap();
    patiently(available.wait_for(|available| !available)).await.unwrap();
    patiently(available.wait_for(|available| *available)).await.unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());

    // No call meets a connection to the silent host.
    for _ in 0..20 {
        let started = Instant::now();
        assert!(store.get(id).await.unwrap().is_some());
        store.create(alice()).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
    place.server.wake();
    assert_eq!(store.extent().await.unwrap().total, 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writable_host_is_chosen_among_several() {
    let Some((mut place, standby)) = with_standby().await else { return };
    // The tables are made on the primary, and have to exist first.
    place.open().await.create(alice()).await.unwrap();
    follows(&standby, &place, 1).await;
    let ports = [standby.port(), place.server.port()];
    for attributes in ["", "?target_session_attrs=read-write", "?target_session_attrs=primary"] {
        place.options.url = by_way_of(&place.options.url, &ports) + attributes;
        let store = place.open().await;
        store.create(alice()).await.unwrap();
        assert!(*store.availability().borrow());
    }
    place.options.url =
        by_way_of(&place.options.url, &ports[..1]) + "?target_session_attrs=primary";
    let error = InDatabase::refusal(&place.options).await;
    assert!(error.contains("is read-only, and target_session_attrs excludes that"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standby_answers_reads_only_until_promoted() {
    let Some((mut place, standby)) = with_standby().await else { return };
    let id = place.open().await.create(alice()).await.unwrap().id;
    follows(&standby, &place, 1).await;
    place.options.url = by_way_of(&place.options.url, &[standby.port()]);
    assert_eq!(PostgresStore::inspect(&place.options).await.unwrap(), Found::ReadOnly);
    let store = place.open().await;
    let mut available = store.availability();
    patiently(available.wait_for(|available| !available)).await.unwrap();
    assert!(store.get(id).await.unwrap().is_some());
    assert_eq!(store.extent().await.unwrap().total, 1);
    assert!(store.create(alice()).await.unwrap_err().is_unavailable());
    standby.promote();
    patiently(available.wait_for(|available| *available)).await.unwrap();
    store.create(alice()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_only_database_is_not_ready_and_answers_reads() {
    use user_server::pb::{CreateUserRequest, GetUserRequest, user_service};
    let Some(place) = InDatabase::new().await else { return };
    let id = place.open().await.create(alice()).await.unwrap().id;
    let (_, database) = place.options.url.rsplit_once('/').unwrap();
    let arguments =
        ["--store", &place.options.url, "--admin-listen", "127.0.0.1:0", "--lame-duck", "0s"];
    let running = Running::start(&arguments, &[]);
    let (admin, mut peer) =
        (running.admin.clone().unwrap(), Peer::connect(running.address.parse().unwrap()).await);
    let is_ready = || http(&admin, "GET /readyz").starts_with("HTTP/1.1 200");
    assert!(is_ready());
    // Existing sessions keep their settings.
    let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let read_only = |value: &str| {
        format!("ALTER DATABASE {database} SET default_transaction_read_only = {value}")
    };
    place.run_sql(&read_only("on"));
    place.run_sql(all);
    while is_ready() {}
    let get = encoded(&GetUserRequest { user_id: id.to_string() });
    let user = CreateUserRequest { name: "Bob".into(), email: "b@c.de".into() };
    let reply = peer.call(request(user_service::GET_USER.path), get.clone()).await;
    assert_eq!(reply.grpc_status(), "0");
    let reply = peer.call(request(user_service::CREATE_USER.path), encoded(&user)).await;
    assert_eq!(reply.grpc_status(), "14");
    let check = user_server().args(["check", "--store", &place.options.url]).output().unwrap();
    let out = String::from_utf8(check.stdout).unwrap();
    assert!(check.status.success() && out.contains("is read-only"), "{out}");

    place.run_sql(&format!("BEGIN READ WRITE; {}; COMMIT", read_only("off")));
    place.run_sql(all);
    while !is_ready() {}
    let reply = peer.call(request(user_service::CREATE_USER.path), encoded(&user)).await;
    assert_eq!(reply.grpc_status(), "0");
}

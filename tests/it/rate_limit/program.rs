//! Rate limits of the program.

use std::time::Duration;

use user_server::pb::CreateUserRequest;
use user_server::pb::user_service::{CREATE_USERS, GET_USER};

use super::passed;
use crate::access::{SECRET, token};
use crate::admin;
use crate::support::folder::Folder;
use crate::support::patiently;
use crate::support::peer::{Peer, encoded, framed, request};
use crate::support::program::{Running, complaint, user_server};
use crate::support::redis::Redis;

/// The program with these arguments, and a connection to it.
async fn start(arguments: &[&str]) -> (Running, Peer) {
    let running = Running::start(arguments, &[]);
    let peer = Peer::connect(running.address.parse().unwrap()).await;
    (running, peer)
}

#[tokio::test]
async fn rules_come_from_settings_and_exempt_health() {
    let (mut running, mut peer) = start(&["--rate-limit", "*/GetUser=2/1h,*=3/1h"]).await;
    assert_eq!(passed(&mut peer, GET_USER.path, &[], 9).await, 2);
    assert_eq!(passed(&mut peer, "/no.Such/Thing", &[], 9).await, 3);
    assert_eq!(passed(&mut peer, "/grpc.health.v1.Health/Check", &[], 9).await, 9);
    let line = running.line_with("RESOURCE_EXHAUSTED");
    assert!(line.contains("balafon::access"), "{line}");
}

#[tokio::test]
async fn stream_messages_are_limited_by_a_rule() {
    let (_running, mut peer) = start(&["--rate-limit", "*/CreateUsers=3messages/1h,*=9/1h"]).await;
    let user = CreateUserRequest { name: "Bob".into(), email: "b@c.de".into() };
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let body = [encoded(&user), encoded(&user)].concat().into();
        statuses.push(peer.call(request(CREATE_USERS.path), body).await.grpc_status().to_owned());
    }
    assert_eq!(statuses, ["0", "8", "8"]);
}

#[tokio::test]
async fn authenticated_principal_is_a_client_of_its_own() {
    let folder = Folder::new();
    let secret = folder.write("secret", SECRET);
    let arguments = ["--auth-secret", &secret, "--auth-allow", "a=*", "--rate-limit", "*=2/1h"];
    let (_running, mut peer) = start(&arguments).await;
    for name in ["one", "other"] {
        let token = format!("Bearer {}", token(&secret, &["--subject", name, "--roles", "a"]));
        let credentials = [("authorization", &*token)];
        assert_eq!(passed(&mut peer, GET_USER.path, &credentials, 5).await, 2);
    }
}

#[tokio::test]
async fn load_shedding_counts_calls_and_exempts_health() {
    let (running, admin) = admin::start(&["--max-calls", "1"]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    let update = "/ru.tinkoff.kora.example.UserService/UpdateUsers";
    let _open = peer.open(update).await;
    let shed = peer.call(request(GET_USER.path), framed("")).await;
    assert_eq!(shed.grpc_status(), "14");
    let health = peer.call(request("/grpc.health.v1.Health/Check"), framed("")).await;
    assert_eq!(health.grpc_status(), "0");
    let metrics = admin::http(&admin, "GET /metrics");
    let shed = metrics
        .lines()
        .find(|line| line.contains(r#"grpc_code="Unavailable",grpc_method="GetUser""#));
    assert!(shed.is_some_and(|line| line.ends_with(" 1")), "{shed:?}");
}

#[tokio::test]
async fn redis_shares_one_limit_between_two_programs() {
    let Some(mut redis) = Redis::start() else { return };
    let url = redis.url();
    let arguments = ["--rate-limit-redis", &url, "--trusted-proxies", "127.0.0.1"];
    // The access log would have too many lines.
    let quiet = ["--log-level", "info,balafon::access=warn", "--rate-limit", "*=500/1h"];
    let arguments = [&quiet[..], &arguments].concat();
    let (mut one, mut to_one) = start(&arguments).await;
    let (mut other, mut to_other) = start(&arguments).await;
    assert!(one.before.contains("limits are shared by Redis"), "{}", one.before);

    let path = GET_USER.path;
    assert_one_limit(&mut to_one, &mut to_other, 1).await;

    redis.stop();
    for (program, peer) in [(&mut one, &mut to_one), (&mut other, &mut to_other)] {
        assert_eq!(patiently(passed(peer, path, &[], 600)).await, 500);
        let line = program.line_with("Redis is away");
        assert!(line.contains("this instance limits for itself"), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }

    redis.go_on();
    one.line_with("limits are shared by Redis");
    other.line_with("limits are shared by Redis");
    assert_one_limit(&mut to_one, &mut to_other, 2).await;
}

/// Two programs pass 500 calls of a client together. On a busy machine Redis may answer later than in 50 ms:
/// each program then limits by itself for a moment. So it is tried with several clients of this `network`.
async fn assert_one_limit(one: &mut Peer, other: &mut Peer, network: u8) {
    let mut counts = Vec::new();
    for client in 1..=10 {
        let client = format!("10.0.{network}.{client}");
        let headers = [("x-forwarded-for", &*client)];
        let path = GET_USER.path;
        let (a, b) =
            tokio::join!(passed(one, path, &headers, 400), passed(other, path, &headers, 400));
        if (490..=510).contains(&(a + b)) {
            return;
        }
        counts.push(a + b);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{counts:?} calls passed, of 500");
}

#[tokio::test]
async fn redis_that_hangs_delays_no_call_for_long() {
    // It accepts connections, but answers nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let arguments = ["--rate-limit", "*=5/1h", "--rate-limit-redis", &url];
    let (running, mut peer) = start(&arguments).await;
    assert!(running.before.contains("no answer within"), "{}", running.before);
    let began = std::time::Instant::now();
    assert_eq!(passed(&mut peer, GET_USER.path, &[], 9).await, 5);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// Runs `check` with these rules and returns its exit code and its line about Redis.
fn check(redis: &str) -> (Option<i32>, String) {
    let arguments = ["--rate-limit", "*=1/1s", "--rate-limit-redis", redis];
    let mut command = user_server();
    let output = command.arg("check").args(["--store", "memory:"]).args(arguments).output();
    let output = output.unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let line = out.lines().find(|line| line.contains("edis")).unwrap().to_owned();
    assert!(!line.contains("hunter2"), "{line}");
    (output.status.code(), line)
}

#[tokio::test]
async fn redis_without_writes_is_one_line_with_its_reason() {
    let Some(redis) = Redis::start() else { return };
    let url = redis.url();
    let arguments = ["--rate-limit", "*/GetUser=5/1h", "--rate-limit-redis", &url];
    let (mut running, mut peer) = start(&arguments).await;
    assert!(running.before.contains("limits are shared by Redis"), "{}", running.before);
    let [replica, primary] =
        [&["replicaof", "127.0.0.1", "1"][..], &["replicaof", "no", "one"][..]];
    let full = ["config", "set", "maxmemory", "1"];
    let room = ["config", "set", "maxmemory", "0"];
    for (broken, mended, why) in
        [(replica, primary, "it is read-only"), (&full, &room, "it is out of memory")]
    {
        redis.command(broken);
        patiently(passed(&mut peer, GET_USER.path, &[], 1)).await;
        let line = running.line_with("this instance limits for itself");
        assert!(line.contains(why) && !line.contains("away"), "{line}");
        let (code, line) = check(&url);
        assert!(code == Some(0) && line.starts_with("warning: --rate-limit-redis: "), "{line}");
        assert!(line.contains(why), "{line}");
        // After some tries there is no new line.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        patiently(passed(&mut peer, GET_USER.path, &[], 3)).await;
        redis.command(mended);
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| !line.contains("are shared by Redis")) {
            lines.push(running.line_with("balafon::rate_limit"));
        }
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
}

#[test]
fn redis_cluster_and_sentinel_are_refused_with_the_reason() {
    let cluster = ["--cluster-enabled", "yes"];
    let Some(cluster) = Redis::with_arguments(&cluster) else { return };
    let sentinel = Redis::sentinel().unwrap();
    let with_database = cluster.url().replace("/0", "/1");
    for (url, why) in [
        (cluster.url(), "it is a Redis Cluster, which cannot share limits"),
        (with_database, "it is a Redis Cluster, which cannot share limits"),
        (sentinel.url(), "it is a Redis Sentinel, which cannot share limits: name the Redis"),
    ] {
        let (code, line) = check(&url);
        assert!(line.starts_with("error: --rate-limit-redis: it is"), "{line}");
        assert!(code == Some(2) && line.contains(why), "{line}");
        let line =
            complaint(&["--rate-limit=*=1/1s", "--rate-limit-redis", &url, "--log-level=off"]);
        assert!(line.contains(why) && !line.contains("hunter2"), "{line}");
    }
}

#[test]
fn check_reports_redis_and_config_hides_its_password() {
    let Some(mut redis) = Redis::start() else { return };
    let folder = Folder::new();
    let settings = format!("[rate-limit]\nrules = ['*=1/1s']\nredis = '{}'\n", redis.url());
    let file = folder.write("server.toml", settings);
    let run = |command: &str| {
        let output = user_server().args([command, "--config", &file]).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && !out.contains("hunter2"), "{out}");
        out
    };
    assert!(run("config").contains("redis = \"redis://:(secret)@127.0.0.1:"));
    assert!(run("check").contains("ok: rate limits: Redis answers\n"));
    redis.stop();
    let away = format!("warning: {file}:3: rate-limit.redis: it does not answer");
    assert!(run("check").contains(&away));
}

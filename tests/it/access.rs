//! Authentication of the program, from a token on the command line to the audit log.

use balafon::Encoding;
use balafon::prost::Message;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::Value;
use user_server::pb::{CreateUserRequest, CreateUsersResponse, GetUserRequest, UserResponse};

use crate::admin;
use crate::support::folder::Folder;
use crate::support::patiently;
use crate::support::peer::{Peer, Reply, encoded, framed, request};
#[cfg(target_os = "linux")]
use crate::support::postgres;
use crate::support::program::{Running, complaint, user_server};

pub const SECRET: &str = "0123456789abcdef0123456789abcdef\n";

pub const SERVICE: &str = "/ru.tinkoff.kora.example.UserService/";

pub fn token(secret: &str, arguments: &[&str]) -> String {
    let output = user_server()
        .args(["token", "--auth-secret", secret, "--expires-in", "5m"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

async fn call(peer: &mut Peer, method: &str, token: &str, message: &impl Message) -> Reply {
    let head = request(&format!("{SERVICE}{method}"));
    let head = head.header("authorization", format!("Bearer {token}"));
    peer.call(head, encoded(message)).await
}

fn user(reply: &Reply) -> UserResponse {
    assert_eq!(reply.grpc_status(), "0");
    UserResponse::decode(reply.body.slice(5..)).unwrap()
}

#[tokio::test]
async fn roles_limit_methods_and_fields_and_changes_are_audited() {
    let folder = Folder::new();
    let path = &folder.write("secret", SECRET);
    let arguments = [
        "--auth-secret",
        path,
        "--auth-allow=admin=*",
        "--auth-allow=support=*/GetUser,support=*/GetAllUsers",
        "--auth-allow=monitor=grpc.health.v1.Health/*",
        "--auth-limit=support=masked-email,support=active-only",
    ];
    let mut server = Running::start(&arguments, &[]);
    let mut peer = Peer::connect(server.address.parse().unwrap()).await;
    let admin = token(path, &["--subject", "root", "--roles", "admin"]);
    // A role for other methods lifts no limit.
    let support = token(path, &["--subject", "helper", "--roles", "support,monitor,other"]);

    let new = CreateUserRequest { name: "Alice".into(), email: "alice@example.com".into() };
    let created = user(&call(&mut peer, "CreateUser", &admin, &new).await);
    assert_eq!(created.email, "alice@example.com");
    let line = server.line_with("balafon::audit");
    for part in ["\"root\"", "CreateUser", &created.id, "\"status\":\"OK\"", "correlation_id"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains("alice"), "{line}");

    let get = GetUserRequest { user_id: created.id };
    let seen = user(&call(&mut peer, "GetUser", &support, &get).await);
    assert_eq!(seen.email, "a***@example.com");
    let seen = user(&call(&mut peer, "GetUser", &admin, &get).await);
    assert_eq!(seen.email, "alice@example.com");
    let denied = call(&mut peer, "CreateUser", &support, &new).await;
    assert_eq!(denied.grpc_status(), "7");
    let line = server.line_with("balafon::audit");
    assert!(line.contains("helper") && line.contains("PERMISSION_DENIED"), "{line}");
    let stranger = peer.call(request(&format!("{SERVICE}GetUser")), encoded(&get)).await;
    assert_eq!(stranger.grpc_status(), "16");
    let health = request("/grpc.health.v1.Health/Check");
    assert_eq!(peer.call(health, encoded(&())).await.grpc_status(), "0");
}

#[tokio::test]
async fn logs_show_the_client_that_a_trusted_proxy_names() {
    let folder = Folder::new();
    let secret = &folder.write("secret", SECRET);
    let admin = token(secret, &["--subject", "root", "--roles", "admin"]);
    let stranger = token(secret, &["--subject", "stranger", "--roles", "other"]);
    let new = CreateUserRequest { name: "Alice".into(), email: "alice@example.com".into() };
    for (proxy, client) in [("127.0.0.1", Some("203.0.113.7")), ("10.0.0.0/8", None)] {
        let arguments =
            ["--auth-secret", secret, "--auth-allow=admin=*", "--trusted-proxies", proxy];
        let mut server = Running::start(&arguments, &[]);
        let mut peer = Peer::connect(server.address.parse().unwrap()).await;
        for (token, target) in [
            (&*admin, "balafon::audit"),
            (&*stranger, "balafon::audit"),
            ("e30.e30.e30", "balafon::auth"),
            (&*admin, "balafon::access"),
        ] {
            let head = request(&format!("{SERVICE}CreateUser"))
                .header("authorization", format!("Bearer {token}"))
                .header("x-forwarded-for", "192.0.2.1, ::ffff:203.0.113.7");
            peer.call(head, encoded(&new)).await;
            let line: Value = serde_json::from_str(&server.line_with(target)).unwrap();
            assert_eq!(line.get("client").and_then(Value::as_str), client, "{line}");
            assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        }
    }
}

#[tokio::test]
async fn reads_are_attributed_in_the_access_log() {
    let folder = Folder::new();
    let secret = &folder.write("secret", SECRET);
    let arguments = ["--auth-secret", secret, "--auth-allow=reader=*/GetUser"];
    let mut server = Running::start(&arguments, &[]);
    let mut peer = Peer::connect(server.address.parse().unwrap()).await;
    let reader = token(secret, &["--subject", "somebody", "--roles", "reader"]);
    let get = GetUserRequest { user_id: "0190163d-8694-739b-aea5-966c26f8ad91".into() };
    for (method, token, status, principal) in [
        ("GetUser", &*reader, "5", Some("somebody")),
        ("GetAllUsers", &*reader, "7", Some("somebody")),
        ("GetUser", "e30.e30.e30", "16", None),
    ] {
        assert_eq!(call(&mut peer, method, token, &get).await.grpc_status(), status);
        let line: Value = serde_json::from_str(&server.line_with("balafon::access")).unwrap();
        assert_eq!(line.get("principal").and_then(Value::as_str), principal, "{line}");
    }
}

/// A key belongs to its caller, in a stream too.
#[tokio::test]
async fn idempotency_keys_of_streams_belong_to_their_caller() {
    let folder = Folder::new();
    let secret = &folder.write("secret", SECRET);
    let server = Running::start(&["--auth-secret", secret, "--auth-allow=admin=*"], &[]);
    let mut peer = Peer::connect(server.address.parse().unwrap()).await;
    let user = CreateUserRequest { name: "Alice".into(), email: "alice@example.com".into() };
    let mut ids = Vec::new();
    for subject in ["one", "other", "one"] {
        let token = token(secret, &["--subject", subject, "--roles", "admin"]);
        let head = request(&format!("{SERVICE}CreateUsers"))
            .header("authorization", format!("Bearer {token}"))
            .header("idempotency-key", "k");
        let reply = peer.call(head, encoded(&user)).await;
        assert_eq!(reply.grpc_status(), "0");
        ids.push(CreateUsersResponse::decode(reply.body.slice(5..)).unwrap().user_ids);
    }
    assert!(ids[0] == ids[2] && ids[0] != ids[1], "{ids:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creations_are_audited_when_the_client_gives_up() {
    let Some(database) = tokio::task::spawn_blocking(postgres::own).await.unwrap() else { return };
    let folder = Folder::new();
    let secret = &folder.write("secret", SECRET);
    let url = database.database();
    let arguments = ["--auth-secret", secret, "--auth-allow=admin=*", "--store", &*url];
    let mut server = Running::start(&arguments, &[]);
    let (_, name) = url.rsplit_once('/').unwrap();
    let slow = "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(3600); RETURN new; END';
        CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION slowly()";
    database.run_sql(name, slow).unwrap();
    let mut peer = Peer::connect(server.address.parse().unwrap()).await;
    let admin = token(secret, &["--subject", "root", "--roles", "admin"]);
    let user = CreateUserRequest { name: "Alice".into(), email: "alice@example.com".into() };
    for (method, users) in [("CreateUser", 1), ("CreateUsers", 2)] {
        let head = request(&format!("{SERVICE}{method}"))
            .header("authorization", format!("Bearer {admin}"))
            .header("grpc-timeout", "1S");
        let messages = vec![encoded(&user); users].concat();
        let reply = peer.call(head, messages.into()).await;
        assert_eq!(reply.grpc_status(), "4");
        if method == "CreateUsers" {
            let message = reply.trailer("grpc-message").unwrap();
            assert!(message.contains("the next 2 may or may not have been"), "{message}");
        }
        let line: Value = serde_json::from_str(&server.line_with("balafon::audit")).unwrap();
        assert_eq!(line["status"], "DEADLINE_EXCEEDED");
        assert_eq!(line["users"].as_str().unwrap().split(',').count(), users, "{line}");
        assert!(!line["users"].as_str().unwrap().is_empty(), "{line}");
    }
}

#[tokio::test]
async fn reflection_and_health_follow_their_access_settings() {
    const LIST: &str = "/grpc.health.v1.Health/List";
    const REFLECTION: [&str; 2] = [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ];
    let folder = Folder::new();
    let secret = folder.write("secret", SECRET);
    let admin = token(&secret, &["--subject", "root", "--roles", "admin"]);
    let support = token(&secret, &["--subject", "helper", "--roles", "support"]);
    let auth = [
        "--auth-secret",
        &secret,
        "--auth-allow=admin=*",
        "--auth-allow=support=*/GetUser",
        "--auth-discovery",
    ];
    // Expected statuses: without credentials, with a role for some methods, with a role for all
    // methods.
    for (setting, statuses) in [
        ("allowed", ["16", "7", "0"]),
        ("authenticated", ["16", "0", "0"]),
        ("open", ["0", "0", "0"]),
        ("off", ["16", "12", "12"]),
    ] {
        let arguments = [&auth[..], &[setting]].concat();
        let arguments = if setting == "allowed" { &arguments[..4] } else { &arguments };
        let server = Running::start(arguments, &[]);
        let mut peer = Peer::connect(server.address.parse().unwrap()).await;
        for (credentials, status) in [None, Some(&support), Some(&admin)].into_iter().zip(statuses)
        {
            for path in [&[LIST], &REFLECTION[..]].concat() {
                let mut head = request(path);
                if let Some(token) = credentials {
                    head = head.header("authorization", format!("Bearer {token}"));
                }
                let reply = peer.call(head, encoded(&())).await;
                assert_eq!(reply.grpc_status(), status, "{setting} {path} {credentials:?}");
            }
        }
        let probe = request("/grpc.health.v1.Health/Check");
        assert_eq!(peer.call(probe, encoded(&())).await.grpc_status(), "0", "{setting}");
        let mut watch = peer.open("/grpc.health.v1.Health/Watch").await;
        watch.send.send_data(encoded(&()), true).unwrap();
        let (_send, mut statuses) = watch.split().await.unwrap();
        let first = patiently(statuses.data()).await.unwrap().unwrap();
        assert_eq!(first[..], [0, 0, 0, 0, 2, 8, 1], "{setting}");
    }
    // Without authentication every client is served.
    let server = Running::start(&[], &[]);
    let mut peer = Peer::connect(server.address.parse().unwrap()).await;
    for path in [&[LIST], &REFLECTION[..]].concat() {
        assert_eq!(peer.call(request(path), encoded(&())).await.grpc_status(), "0", "{path}");
    }
    let line = complaint(&["--auth-discovery", "open"]);
    assert!(line.contains("--auth-discovery needs one of auth.jwks"), "{line}");
}

#[tokio::test]
async fn compression_can_be_switched_off() {
    let body = |message: &[u8]| {
        let payload = Encoding::GZIP.compress(message).unwrap();
        let prefix = [&[1][..], &u32::try_from(payload.len()).unwrap().to_be_bytes()].concat();
        Bytes::from([prefix, payload].concat())
    };
    let head = || {
        request(&format!("{SERVICE}GetUser"))
            .header("grpc-encoding", "gzip")
            .header("grpc-accept-encoding", "gzip,zstd")
    };
    for (requests, status, accepted) in [
        ("all", "5", "identity,gzip,deflate,zstd"),
        ("off", "12", "identity"),
        ("zstd", "12", "identity,zstd"),
        ("zstd,gzip", "5", "identity,gzip,zstd"),
    ] {
        let server = Running::start(&["--request-compression", requests], &[]);
        let mut peer = Peer::connect(server.address.parse().unwrap()).await;
        let reply = peer.call(head(), body(&framed("42")[5..])).await;
        assert_eq!(reply.grpc_status(), status, "{requests}");
        assert_eq!(reply.headers["grpc-accept-encoding"], accepted, "{requests}");
    }
    let user = CreateUserRequest { name: "Alice".into(), email: "a@example.com".into() };
    for (responses, encoding) in [
        ("mirror", Some("gzip")),
        ("off", None),
        ("zstd,gzip", Some("gzip")),
        ("zstd", Some("zstd")),
    ] {
        let server = Running::start(&["--response-compression", responses], &[]);
        let mut peer = Peer::connect(server.address.parse().unwrap()).await;
        let reply = peer.call(
            request(&format!("{SERVICE}CreateUser"))
                .header("grpc-encoding", "gzip")
                .header("grpc-accept-encoding", "gzip,zstd"),
            body(&encoded(&user)[5..]),
        );
        let reply = reply.await;
        assert_eq!(reply.grpc_status(), "0");
        let named = reply.headers.get("grpc-encoding").map(|name| name.to_str().unwrap());
        assert_eq!(named, encoding, "{responses}");
    }
    let line = complaint(&["--request-compression", "off,gzip"]);
    assert!(
        line.contains("--request-compression has \"off\" in a list with other values: it must be the only value"),
        "{line}"
    );
}

#[tokio::test]
async fn refused_calls_are_counted_and_logged() {
    let folder = Folder::new();
    let secret = folder.write("secret", SECRET);
    let (mut server, admin) = admin::start(&["--auth-secret", &secret]);
    let mut peer = Peer::connect(server.address.parse().unwrap()).await;
    let stranger = peer.call(request(&format!("{SERVICE}GetUser")), encoded(&())).await;
    assert_eq!(stranger.grpc_status(), "16");
    let line = server.line_with("balafon::access");
    assert!(line.contains(r#""status":"UNAUTHENTICATED""#), "{line}");
    let metrics = admin::http(&admin, "GET /metrics");
    let refused = metrics
        .lines()
        .find(|line| line.contains(r#"grpc_code="Unauthenticated",grpc_method="GetUser""#));
    assert!(refused.is_some_and(|line| line.ends_with(" 1")), "{refused:?}");
}

#[test]
fn check_names_the_setting_of_an_unusable_file() {
    let folder = Folder::new();
    let secret = folder.write("secret", SECRET);
    let check = |arguments: &[&str]| {
        let output = user_server().arg("check").args(arguments).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let finding = out.lines().find(|line| line.contains("auth")).unwrap().to_owned();
        (finding, output.status.code().unwrap())
    };
    let good = "ok: authentication: all files are valid";
    let auth_secret = ["--auth-secret", &secret, "--auth-allow=admin=*"];
    assert_eq!(check(&auth_secret), (good.to_owned(), 0));
    for (flag, content, problem) in [
        ("--auth-jwks", "{}", "not a JWKS: "),
        ("--auth-public-key", "", "no public key (BEGIN PUBLIC KEY) in the PEM"),
        ("--auth-revoked", "one two", "line 1: wanted one id"),
        ("--auth-api-keys", "hunter2 me", "line 1: wanted SHA-256 in hex, name, roles"),
    ] {
        let file = folder.write("file", content);
        let (line, code) = check(&[&auth_secret[..], &[flag, &file]].concat());
        assert!(line.starts_with(&format!("error: {flag}: {file}: {problem}")), "{line}");
        assert_eq!(code, 2);
        // The server does not start either.
        let line = complaint(&[&auth_secret[..], &[flag, &file]].concat());
        assert!(line.starts_with(&format!("user-server: {flag}: {file}: {problem}")), "{line}");
    }
}

#[tokio::test]
async fn auth_that_allows_no_method_is_warned_of() {
    let folder = Folder::new();
    let secret = folder.write("secret", SECRET);
    let warning = "authentication is on, but auth.allow (--auth-allow) is not set: every user method is \
                   denied to every client";
    let server = Running::start(&["--auth-secret", &secret], &[]);
    let line = server.before.lines().find(|line| line.contains("WARN")).unwrap();
    assert!(line.contains(warning), "{line}");
    let check = user_server().args(["check", "--store=memory:", "--auth-secret", &secret]).output();
    let out = String::from_utf8(check.unwrap().stdout).unwrap();
    assert!(out.lines().any(|line| line == format!("warning: {warning}")), "{out}");
    let server = Running::start(&["--auth-secret", &secret, "--auth-allow=a=*"], &[]);
    assert!(!server.before.contains("WARN"), "{}", server.before);
}

#[test]
fn check_summarizes_files_without_secrets() {
    let folder = Folder::new();
    let secret = folder.write("secret", SECRET);
    let revoked = folder.write("revoked", "abc#1\n# a comment\ndef # why\n");
    let arguments = ["check", "--auth-secret", &secret, "--auth-revoked", &revoked];
    let output = user_server().env("USER_SERVER_STORE", "memory:").args(arguments).output();
    let out = String::from_utf8(output.unwrap().stdout).unwrap();
    for line in [
        format!("ok: --auth-secret: {secret}: 1 key: (HS256, 32 bytes)"),
        format!("ok: --auth-revoked: {revoked}: 2 revoked ids: abc#1, def"),
    ] {
        assert!(out.lines().any(|it| it == line), "{line} is not in {out}");
    }
    assert!(!out.contains(SECRET.trim_end()), "{out}");
}

#[test]
fn token_command_uses_the_settings_of_the_server() {
    let wanted = complaint(&["token", "--subject", "x"]);
    assert!(wanted.contains("needs auth.secret (--auth-secret), which is not set"), "{wanted}");
    let missing = ["--auth-secret", "/nonexistent/secret", "token", "--subject", "x"];
    assert!(complaint(&missing).contains("--auth-secret: /nonexistent/secret: "));
    let folder = Folder::new();
    let secret = folder.write("secret", SECRET);
    let settings = format!("[auth]\nsecret = '{secret}'\nissuer = ['me']\naudience = ['users']\n");
    let settings = folder.write("server.toml", &settings);
    let arguments = ["--config", &settings, "token", "--subject", "x", "--roles", "a,b"];
    let output = user_server().args(arguments).output().unwrap();
    let token = String::from_utf8(output.stdout).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims = String::from_utf8(claims).unwrap();
    for claim in [r#""sub":"x""#, r#""roles":["a","b"]"#, r#""iss":"me""#, r#""aud":"users""#] {
        assert!(claims.contains(claim), "{claim} is not in {claims}");
    }
}

//! A wrong clock, simulated by libfaketime.
#![cfg(target_os = "linux")]

use std::path::PathBuf;

use serde_json::json;
use user_server::pb::CreateUserRequest;
use user_server::pb::user_service::CREATE_USER;

use crate::access::SECRET;
use crate::auth::support::{Key, token};
use crate::support::folder::Folder;
use crate::support::peer::{encoded, request};
use crate::support::program::{Running, user_server};
use crate::tls::{Authority, Client};

/// The library that gives a process another time. `None` if it is not installed; with `CI` set that
/// is a failure.
fn libfaketime() -> Option<PathBuf> {
    let machine = std::env::consts::ARCH;
    let folder = format!("/usr/lib/{machine}-linux-gnu/faketime");
    let library = PathBuf::from(folder).join("libfaketime.so.1");
    if !library.exists() {
        assert!(std::env::var_os("CI").is_none(), "wanted libfaketime");
        eprintln!("skipped: libfaketime is not installed");
        return None;
    }
    Some(library)
}

#[tokio::test]
async fn time_before_1970_fails_no_call() {
    let Some(library) = libfaketime() else { return };
    let (folder, authority) = (Folder::new(), Authority::new());
    let identity = authority.identity();
    let files = [
        ("--auth-secret", folder.write("secret", SECRET)),
        ("--tls-cert", folder.write("cert.pem", &identity.chain)),
        ("--tls-key", folder.write("key.pem", &identity.key)),
        ("--store", format!("sqlite:{}", folder.write("users.db", ""))),
    ];
    let mut command = user_server();
    command.args(files.iter().flat_map(|(flag, value)| [*flag, value]));
    command.args(["--auth-allow", "a=*"]);
    command.env("LD_PRELOAD", library).env("FAKETIME", "@1965-03-01 12:00:00");
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let mut running = Running::spawn(command);
    assert!(running.listening.contains("\"timestamp\":\"1965-03-01T"), "{}", running.listening);

    let (mut peer, _) = Client::new(&authority).connect_to(running.address.parse().unwrap()).await;
    let claims = json!({"sub": "me", "roles": ["a"], "exp": 60});
    let key = Key::Secret(ring::hmac::HMAC_SHA256, SECRET.trim_end().into());
    let token = format!("Bearer {}", token(json!({"alg": "HS256"}), &claims, &key));
    let user = CreateUserRequest { name: "Alice".into(), email: "a@b.co".into() };
    // The second time the token is in the cache.
    for _ in 0..2 {
        let head = request(CREATE_USER.path)
            .header("authorization", &token)
            .header("idempotency-key", "one");
        assert_eq!(peer.call(head, encoded(&user)).await.grpc_status(), "0");
    }
    let line = running.line_with("balafon::access");
    assert!(line.contains("\"correlation_id\":\"00000000-0"), "{line}");
}

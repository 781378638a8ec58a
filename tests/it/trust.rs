//! TLS to a collector and to a Redis: the trust store, and the log lines about failures.

use user_server::pb::user_service::GET_USER;

use crate::support::collector::Collector;
use crate::support::folder::Folder;
use crate::support::peer::{Peer, framed, request};
use crate::support::program::{Running, user_server};
use crate::support::redis::Redis;
use crate::tls::{Authority, Identity};
use crate::traces::program::end;

/// The log of an exporter that trusts `authority`, and the number of spans that have arrived.
async fn export(identity: &Identity, authority: &Authority) -> (String, usize) {
    let (mut collector, folder) = (Collector::with(identity).await, Folder::new());
    let url = format!("https://127.0.0.1:{}", collector.port());
    let ca = folder.write("ca.pem", &authority.pem);
    let running = Running::start(&["--otlp-endpoint", &url, "--otlp-ca", &ca], &[]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    peer.call(request(GET_USER.path), framed("nobody")).await;
    (end(running).await, collector.spans_so_far().len())
}

#[tokio::test]
async fn collector_with_a_trusted_certificate_gets_spans() {
    let authority = Authority::new();
    let (log, spans) = export(&authority.identity_of("127.0.0.1"), &authority).await;
    assert_eq!(spans, 1, "{log}");
}

#[tokio::test]
async fn collector_with_another_certificate_gets_no_spans() {
    let authority = Authority::new();
    for (identity, why) in [
        (Authority::named("another").identity_of("127.0.0.1"), "UnknownIssuer"),
        (authority.identity(), "certificate not valid for name"),
    ] {
        let (log, spans) = export(&identity, &authority).await;
        let line = log.lines().find(|line| line.contains("balafon::traces"));
        assert_eq!(spans, 0);
        assert!(line.is_some_and(|line| line.contains(why) && line.contains("https://")), "{log}");
    }
}

#[tokio::test]
async fn redis_needs_a_certificate_of_its_authority() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let Some(redis) = Redis::with(&authority.identity_of("127.0.0.1")) else { return };
    let own = folder.write("own.pem", &authority.pem);
    let other = folder.write("other.pem", Authority::named("another").pem);
    for (ca, says) in [(own, "limits are shared by Redis"), (other, "UnknownIssuer")] {
        let url = redis.url();
        let arguments =
            ["--rate-limit", "*=1/1h", "--rate-limit-redis", &url, "--rate-limit-redis-ca", &ca];
        let running = Running::start(&arguments, &[]);
        assert!(running.before.contains(says), "{}", running.before);
        assert!(!running.before.contains("hunter2"), "{}", running.before);
        // Either way one of them counts.
        let mut peer = Peer::connect(running.address.parse().unwrap()).await;
        assert_eq!(crate::rate_limit::passed(&mut peer, GET_USER.path, &[], 3).await, 1);
    }
}

#[test]
fn check_reports_unusable_authorities() {
    let folder = Folder::new();
    let file = folder.write("ca.pem", "nothing");
    for arguments in [
        &["--otlp-endpoint=https://collector", "--otlp-ca", &file][..],
        &["--rate-limit=*=1/1h", "--rate-limit-redis=rediss://r", "--rate-limit-redis-ca", &file],
        &["--store=postgres://db/users", "--store-ca", &file],
    ] {
        let output = user_server().arg("check").args(arguments).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let why = format!("-ca: cannot use {file}: CA: no certificate in the PEM");
        assert!(out.lines().any(|it| it.starts_with("error: --") && it.ends_with(&why)), "{out}");
        assert_eq!(output.status.code(), Some(2));
    }
}

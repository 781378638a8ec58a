//! Log lines about refused clients.

use super::*;
use crate::support::folder::Folder;
use crate::support::program::Running;

/// The program with required client certificates.
fn start(server: &Identity, clients: &Authority) -> (Running, Folder) {
    let folder = Folder::new();
    let cert = folder.write("server.pem", &server.chain);
    let key = folder.write("server.key", &server.key);
    let ca = folder.write("clients.pem", &clients.pem);
    let flags = ["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca];
    (Running::start(&flags, &[]), folder)
}

#[tokio::test]
async fn refused_client_is_logged_with_address_and_reason() {
    let (authority, stranger) = (Authority::new(), Authority::named("stranger"));
    let own = authority.identity();
    let (mut program, _folder) = start(&own, &authority);
    let addr = program.address.parse().unwrap();
    let (expired, foreign) = (authority.expired(), stranger.identity());
    let client = || Client::new(&authority);
    for (client, reason) in [
        (client().identity(&expired), "certificate expired"),
        (client().identity(&foreign), "UnknownIssuer"),
        (client(), "peer sent no certificates"),
        (client().identity(&own).alpn(&[]), "did not ask for h2 by ALPN"),
    ] {
        let (from, _) = client.refusal_from(addr).await;
        let line = program.line_with("TLS handshake failed");
        assert!(line.contains("WARN"), "{line}");
        assert!(line.contains(&format!("\"peer\":\"{from}\"")), "{from}: {line}");
        assert!(line.contains(reason), "{reason}: {line}");
    }
    let client = client().identity(&own);
    drop(client.connect_to(addr).await);
}

#[tokio::test]
async fn repeated_refusals_do_not_fill_the_log() {
    let authority = Authority::new();
    let own = authority.identity();
    let (mut program, _folder) = start(&own, &authority);
    let addr = program.address.parse().unwrap();
    // A connection without data, such as a load balancer's health check, is not logged.
    drop(TcpStream::connect(addr).await.unwrap());
    for _ in 0..50 {
        Client::new(&authority).refusal_from(addr).await;
    }
    program.signal("TERM");
    let log = program.rest_of_log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("handshake")).collect();
    // The limit is ten lines in five seconds, and a busy machine may need several times that.
    assert!((10..50).contains(&lines.len()), "{log}");
    assert!(lines.iter().all(|line| line.contains("peer sent no certificates")), "{log}");
}

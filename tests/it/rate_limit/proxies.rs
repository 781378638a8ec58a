//! `x-forwarded-for` names the client only where a trusted proxy adds it.

use std::time::Duration;

use balafon::interceptors::rate_limit::RateLimit;

use super::{UNARY, passed, serve};
use crate::support::TestServer;
use crate::support::peer::Peer;

/// A server with a limit of one call a minute for each client, and a connection to it.
struct Served {
    _server: TestServer,
    peer: Peer,
}

impl Served {
    async fn trusting(proxies: &[&str]) -> Self {
        let limit = RateLimit::new().limit("*", 1, Duration::from_secs(60)).unwrap();
        let trust = |limit: RateLimit, proxy: &&str| limit.trust_proxy(proxy.parse().unwrap());
        let server = serve(proxies.iter().fold(limit, trust)).await;
        let peer = Peer::connect(server.addr).await;
        Self { _server: server, peer }
    }

    /// Whether this is the client's first call.
    async fn is_new(&mut self, forwarded_for: &[&str]) -> bool {
        let headers = forwarded_for.iter().map(|value| ("x-forwarded-for", *value));
        passed(&mut self.peer, UNARY, &headers.collect::<Vec<_>>(), 1).await == 1
    }
}

#[tokio::test]
async fn forwarded_address_of_untrusted_peers_is_ignored() {
    for trusted in [&[][..], &["10.0.0.0/8", "unix"]] {
        let mut server = Served::trusting(trusted).await;
        assert!(server.is_new(&["192.0.2.1"]).await);
        assert!(!server.is_new(&["192.0.2.2"]).await);
        assert!(!server.is_new(&[]).await);
    }
}

#[tokio::test]
async fn forwarded_address_of_trusted_proxies_is_the_client() {
    let mut server = Served::trusting(&["127.0.0.1"]).await;
    assert!(server.is_new(&["192.0.2.1"]).await);
    assert!(!server.is_new(&["192.0.2.1:4711"]).await);
    assert!(server.is_new(&["192.0.2.2"]).await);
    // The proxy itself.
    assert!(server.is_new(&[]).await);
    assert!(!server.is_new(&["garbage"]).await);
}

#[tokio::test]
async fn forwarded_address_that_a_client_forges_is_ignored() {
    let mut server = Served::trusting(&["127.0.0.0/8", "10.0.0.0/8"]).await;
    assert!(server.is_new(&["192.0.2.1"]).await);
    // The client has sent the first address; the proxies have added the others.
    assert!(!server.is_new(&["203.0.113.9, 192.0.2.1"]).await);
    assert!(!server.is_new(&["203.0.113.9", "192.0.2.1, 10.0.0.7"]).await);
    assert!(!server.is_new(&["10.0.0.8, 192.0.2.1", "10.0.0.7"]).await);
    assert!(server.is_new(&["192.0.2.1, 198.51.100.1"]).await);
}

//! API keys and client certificates.

use balafon::ClientCertificate;
use balafon::interceptors::auth::PrincipalKind;
use rcgen::{CertificateParams, DnType, SanType};
use serde_json::json;

use super::support::{Fixture, UNARY, claims, hs256, trusting_the_secret};
use crate::support::folder::Folder;
use crate::tls::{Authority, Client};

/// The SHA-256 of `key`.
pub const API_KEYS: &str =
    "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683 robot reader\n";

#[tokio::test]
async fn api_key_authenticates() {
    let mut test =
        Fixture::new(|auth, files| auth.api_keys(files.write("api-keys", API_KEYS))).await;
    assert_eq!(test.call(UNARY, &[("x-api-key", "key")]).await.grpc_status(), "0");
    let robot = test.principal().unwrap();
    assert_eq!((robot.name(), robot.kind()), ("robot", PrincipalKind::ApiKey));
    for key in ["other", "", "Key", API_KEYS.split(' ').next().unwrap()] {
        let reply = test.call(UNARY, &[("x-api-key", key)]).await;
        test.assert_invalid(&reply, "unknown API key");
    }
    let reply = test.call(UNARY, &[("x-api-key", "key"), ("x-api-key", "key")]).await;
    test.assert_invalid(&reply, "x-api-key came more than once");
    // Tokens are refused: the server has no keys for them.
    let bearer = format!("Bearer {}", hs256(&claims(json!({}))));
    let reply = test.call(UNARY, &[("authorization", &bearer)]).await;
    assert_eq!(reply.trailer("grpc-message"), Some("authentication required"));

    test.files.write("api-keys", "# all withdrawn");
    crate::support::patiently(async {
        while test.call(UNARY, &[("x-api-key", "key")]).await.grpc_status() != "16" {}
    })
    .await;
}

#[tokio::test]
async fn bad_token_beats_a_good_api_key() {
    let mut test = Fixture::new(|auth, files| {
        trusting_the_secret(auth, files).api_keys(files.write("api-keys", API_KEYS))
    })
    .await;
    let both = [("authorization", "Bearer nonsense"), ("x-api-key", "key")];
    let reply = test.call(UNARY, &both).await;
    test.assert_invalid(&reply, "unauthenticated");
}

const CERTIFICATES: &str = "spiffe://example/reader reader\nmachine.example reader\nCarol reader\n";

async fn by_certificate(params: CertificateParams) -> Fixture {
    let authority = Authority::new();
    let (identity, own) = (authority.identity(), authority.sign(params));
    let tls = identity.server();
    let tls = tls.client_ca(authority.pem.as_bytes(), ClientCertificate::Optional).unwrap();
    let set = |auth: balafon::interceptors::auth::AuthBuilder, files: &Folder| {
        trusting_the_secret(auth, files).certificates(files.write("certificates", CERTIFICATES))
    };
    let (authority, own) = (&authority, &own);
    Fixture::with_server(crate::support::server().tls(tls), set, |addr| async move {
        Client::new(authority).identity(own).connect_to(addr).await.0
    })
    .await
}

fn params(common_name: &str, alternative: &[SanType]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = alternative.to_vec();
    params
}

#[tokio::test]
async fn client_certificate_authenticates() {
    let uri = SanType::URI("spiffe://example/reader".try_into().unwrap());
    let dns = SanType::DnsName("machine.example".try_into().unwrap());
    let other = SanType::DnsName("other.example".try_into().unwrap());
    for (common_name, alternative, name) in [
        ("x", vec![dns.clone(), uri], "spiffe://example/reader"),
        ("x", vec![other.clone(), dns], "machine.example"),
        ("Carol", vec![other], "Carol"),
        ("Carol", vec![], "Carol"),
    ] {
        let mut test = by_certificate(params(common_name, &alternative)).await;
        for _ in 0..2 {
            assert_eq!(test.call(UNARY, &[]).await.grpc_status(), "0", "{name}");
            let principal = test.principal().unwrap();
            assert_eq!((principal.name(), principal.kind()), (name, PrincipalKind::Certificate));
        }
    }
}

#[tokio::test]
async fn unlisted_certificate_has_no_roles() {
    let other = SanType::DnsName("other.example".try_into().unwrap());
    let mut test = by_certificate(params("carol", &[other])).await;
    assert_eq!(test.call(UNARY, &[]).await.grpc_status(), "7");
    assert!(test.log().contains("other.example"));
}

#[tokio::test]
async fn bad_token_beats_a_good_certificate() {
    let mut test = by_certificate(params("Carol", &[])).await;
    let reply = test.bearer("nonsense").await;
    test.assert_invalid(&reply, "unauthenticated");
    let admin = hs256(&claims(json!({"roles": ["admin"]})));
    test.assert_accepted(&admin).await;
}

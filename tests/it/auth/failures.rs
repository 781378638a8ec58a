//! The limit on failed authentications of an address.

use std::time::Duration;

use balafon::google::rpc::{RetryInfo, Status as RpcStatus};
use balafon::grpc::metadata::decode_bin;
use balafon::prost::Message;
use balafon::testing::{call, intercept};
use balafon::{AsciiKey, AsciiValue, Outcome, Rpc};
use serde_json::json;

use super::support::{Fixture, UNARY, builder, claims, hs256, trusting_the_secret};
use super::ways::API_KEYS;
use crate::access::SECRET;
use crate::support::folder::Folder;
use crate::support::peer::{Peer, framed, request};
use crate::support::program::Running;

static RPC: Rpc<(), ()> = Rpc::unary("/test.Echo/Unary");
static AUTHORIZATION: AsciiKey = AsciiKey::from_static("authorization");

/// A fixture that trusts a secret and allows an address three failures a minute.
async fn fixture() -> Fixture {
    Fixture::new(|auth, files| {
        trusting_the_secret(auth, files)
            .api_keys(files.write("api-keys", API_KEYS))
            .failures_per_minute(Some(3))
    })
    .await
}

/// A valid token that the server has not verified yet.
fn fresh(subject: &str) -> String {
    hs256(&claims(json!({"sub": subject, "jti": "fresh"})))
}

async fn guess(test: &mut Fixture, times: usize) {
    for _ in 0..times {
        assert_eq!(test.bearer("e30.e30.e30").await.grpc_status(), "16");
    }
}

#[tokio::test]
async fn guessing_address_gets_a_retry_delay() {
    let mut test = fixture().await;
    guess(&mut test, 3).await;
    let refused = test.bearer("e30.e30.e30").await;
    assert_eq!(refused.grpc_status(), "8");
    assert!(refused.is_trailers_only());
    let message = refused.trailer("grpc-message").unwrap();
    assert!(message.starts_with("more than 3 calls with invalid credentials in 60s"), "{message}");
    let details = decode_bin(refused.trailer("grpc-status-details-bin").unwrap().as_bytes());
    let status = RpcStatus::decode(details.unwrap()).unwrap();
    let retry: RetryInfo = status.details.iter().find_map(|any| any.to_msg().ok()).unwrap();
    let pushback = refused.trailer("grpc-retry-pushback-ms").unwrap();
    assert_eq!(pushback.parse(), Ok(retry.delay().unwrap().as_millis()));
    assert!(test.log().contains("too many calls with invalid credentials from this address"));
}

#[tokio::test]
async fn blocked_address_may_still_use_tokens_verified_before() {
    let mut test = fixture().await;
    let known = fresh("alice");
    test.assert_accepted(&known).await;
    guess(&mut test, 3).await;
    // It would be valid, but the server does not verify it.
    assert_eq!(test.bearer(&fresh("bob")).await.grpc_status(), "8");
    assert_eq!(test.principal(), None);
    test.assert_accepted(&known).await;
}

#[tokio::test]
async fn blocked_address_may_use_api_keys_and_guesses_count() {
    let mut test = fixture().await;
    for status in ["16", "16", "16", "8", "8"] {
        assert_eq!(test.call(UNARY, &[("x-api-key", "guess")]).await.grpc_status(), status);
    }
    assert_eq!(test.call(UNARY, &[("x-api-key", "key")]).await.grpc_status(), "0");
}

#[tokio::test]
async fn missing_credentials_and_open_methods_do_not_count() {
    let mut test = fixture().await;
    for _ in 0..9 {
        assert_eq!(test.call(UNARY, &[]).await.grpc_status(), "16");
    }
    test.assert_accepted(&fresh("alice")).await;
    guess(&mut test, 3).await;
    let bad = [("authorization", "Bearer e30.e30.e30")];
    assert_eq!(test.call("/grpc.health.v1.Health/List", &bad).await.grpc_status(), "0");
}

#[tokio::test]
async fn only_a_trusted_proxy_names_the_failing_client() {
    for (trusted, others) in [("127.0.0.1", "0"), ("10.0.0.0/8", "8")] {
        let mut test = Fixture::new(|auth, files| {
            let auth = auth.trust_proxy(trusted.parse().unwrap()).failures_per_minute(Some(1));
            trusting_the_secret(auth, files)
        })
        .await;
        for (from, token, status) in [
            ("192.0.2.1", "e30.e30.e30", "16"),
            ("192.0.2.1", &*fresh("alice"), "8"),
            ("192.0.2.2", &*fresh("alice"), others),
        ] {
            let bearer = format!("Bearer {token}");
            let headers = [("authorization", &*bearer), ("x-forwarded-for", from)];
            let reply = test.call(UNARY, &headers).await;
            assert_eq!(reply.grpc_status(), status, "{from} behind {trusted}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn retry_delay_suffices_to_have_new_tokens_verified() {
    let files = Folder::new();
    let auth = trusting_the_secret(builder(), &files).failures_per_minute(Some(3)).build().unwrap();
    let ask = async |token: &str| {
        let mut call = call(&RPC);
        call.metadata_mut()
            .insert(&AUTHORIZATION, AsciiValue::try_from(&*format!("Bearer {token}")).unwrap());
        intercept(&auth, call, |_| async { Outcome::ok() }).await
    };
    for _ in 0..3 {
        ask("e30.e30.e30").await;
    }
    let refused = ask(&fresh("alice")).await.status;
    let wait = refused.detail::<RetryInfo>().unwrap().delay().unwrap();
    tokio::time::advance(wait - Duration::from_millis(1)).await;
    assert!(!ask(&fresh("alice")).await.status.is_ok());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(ask(&fresh("alice")).await.status.is_ok());
}

#[tokio::test]
async fn program_limits_failures_by_its_settings_and_trusted_proxies() {
    let folder = Folder::new();
    let secret = folder.write("secret", SECRET);
    let arguments =
        ["--auth-secret", &secret, "--auth-failures-per-minute=2", "--trusted-proxies=127.0.0.1"];
    let running = Running::start(&arguments, &[]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    for (from, status) in
        [("192.0.2.1", "16"), ("192.0.2.1", "16"), ("192.0.2.1", "8"), ("192.0.2.2", "16")]
    {
        let head = request(UNARY)
            .header("authorization", "Bearer e30.e30.e30")
            .header("x-forwarded-for", from);
        assert_eq!(peer.call(head, framed("")).await.grpc_status(), status, "{from}");
    }
}

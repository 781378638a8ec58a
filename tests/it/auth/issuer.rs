//! Keys that an issuer publishes at a URL.

use std::time::Duration;

use balafon::ClientTls;
use balafon::interceptors::auth::JwksUrl;
use serde_json::{Value, json};
use user_server::pb::user_service::GET_USER;

use super::support::{Fixture, Key, claims, token};
use crate::support::folder::Folder;
use crate::support::issuer::Issuer;
use crate::support::peer::{Peer, framed, request};
use crate::support::program::{Running, complaint, user_server};
use crate::tls::Authority;

const HOUR: Duration = Duration::from_secs(3600);

/// An issuer, and the authority that signed its certificate.
fn issuer() -> (Issuer, Authority) {
    let authority = Authority::new();
    (Issuer::with(&authority.identity_of("127.0.0.1")), authority)
}

fn url(issuer: &Issuer, authority: &Authority) -> JwksUrl {
    let tls = ClientTls::trusting(authority.pem.as_bytes()).unwrap();
    issuer.url().parse::<JwksUrl>().unwrap().trust(tls)
}

async fn trusting(url: JwksUrl) -> Fixture {
    Fixture::new(|auth, _| auth.jwks_url(url)).await
}

fn signed(kid: &str, key: &Key) -> String {
    token(json!({"alg": "ES256", "kid": kid}), &claims(json!({})), key)
}

#[tokio::test]
async fn jwks_url_is_fetched_again_for_an_unknown_kid() {
    let (issuer, authority) = issuer();
    let (old, new) = (Key::ec256(), Key::ec256());
    issuer.publish(&[old.jwk("old")]);
    let url = url(&issuer, &authority).refresh_every(HOUR).rest_between(Duration::ZERO);
    let mut test = trusting(url).await;
    test.assert_accepted(&signed("old", &old)).await;
    test.assert_refused(&signed("new", &new), "unknown kid").await;
    let before = issuer.requests();
    issuer.publish(&[old.jwk("old"), new.jwk("new")]);
    // The call whose token names the unknown key waits for the fetch.
    test.assert_accepted(&signed("new", &new)).await;
    assert_eq!(issuer.requests(), before + 1);
    test.assert_accepted(&signed("old", &old)).await;
    test.assert_refused(&signed("old", &new), "InvalidSignature").await;
    assert_eq!(issuer.requests(), before + 1, "no kid was unknown");
}

#[tokio::test]
async fn jwks_url_is_not_fetched_for_each_unknown_kid() {
    let (issuer, authority) = issuer();
    let key = Key::ec256();
    issuer.publish(&[key.jwk("one")]);
    let mut test = trusting(url(&issuer, &authority).refresh_every(HOUR)).await;
    for n in 0..20 {
        test.assert_refused(&signed(&n.to_string(), &key), "unknown kid").await;
    }
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn jwks_url_is_fetched_on_a_schedule() {
    let (issuer, authority) = issuer();
    let (old, new) = (Key::ec256(), Key::ec256());
    issuer.publish(&[old.jwk("old")]);
    let often = Duration::from_millis(20);
    let url = url(&issuer, &authority).refresh_every(often).rest_between(often);
    let mut test = trusting(url).await;
    let by_old = signed("old", &old);
    test.assert_accepted(&by_old).await;
    // A withdrawn key no longer counts, not even for a cached token.
    issuer.publish(&[new.jwk("new")]);
    test.until(&by_old, "16").await;
    test.assert_accepted(&signed("new", &new)).await;
}

#[tokio::test]
async fn jwks_url_is_fetched_sooner_by_cache_control() {
    let (mut issuer, authority) = issuer();
    let key = Key::ec256();
    issuer.publish(&[key.jwk("one")]);
    issuer.cache_control("public, max-age=0");
    let soon = Duration::from_millis(5);
    let test = trusting(url(&issuer, &authority).refresh_every(HOUR).rest_between(soon)).await;
    issuer.asked(3).await;
    issuer.cache_control("max-age=7200");
    // One fetch may have been in progress.
    issuer.asked(1).await;
    tokio::time::sleep(10 * soon).await;
    let before = issuer.requests();
    tokio::time::sleep(20 * soon).await;
    assert_eq!(issuer.requests(), before);
    drop(test);
}

#[tokio::test]
async fn fetched_keys_stay_while_the_issuer_is_away() {
    let (mut issuer, authority) = issuer();
    let (old, new) = (Key::ec256(), Key::ec256());
    issuer.publish(&[old.jwk("old")]);
    let often = Duration::from_millis(10);
    let url = url(&issuer, &authority).refresh_every(often).rest_between(often);
    let mut test = trusting(url).await;
    let odd = json!({"keys": [{"kty": "AKP", "kid": "odd"}]}).to_string();
    for (status, body, why) in [
        (503, "", "the answer is 503 Service Unavailable"),
        (200, "<html>", "not a JWKS"),
        (200, "", "not a JWKS"),
        (200, &odd, "no key in the JWKS that can be used"),
    ] {
        test.clear_log();
        issuer.answer(status, body);
        test.logged(why).await;
        issuer.asked(3).await;
        assert_eq!(test.log().matches("stays in force").count(), 1, "{}", test.log());
        test.assert_accepted(&signed("old", &old)).await;
    }
    test.clear_log();
    issuer.publish(&[new.jwk("new")]);
    test.logged("can be fetched again").await;
    test.assert_accepted(&signed("new", &new)).await;
}

#[tokio::test]
async fn tokens_are_unavailable_until_the_first_fetch() {
    let (issuer, authority) = issuer();
    let key = Key::ec256();
    let often = Duration::from_millis(10);
    let url = url(&issuer, &authority).refresh_every(often).rest_between(often);
    let mut test = trusting(url).await;
    let token = signed("one", &key);
    let reply = test.bearer(&token).await;
    assert_eq!(reply.grpc_status(), "14");
    assert_eq!(reply.trailer("grpc-message"), Some("tokens cannot be verified yet"));
    issuer.publish(&[key.jwk("one")]);
    test.until(&token, "0").await;
    test.assert_refused(&signed("one", &Key::ec256()), "InvalidSignature").await;
}

#[tokio::test]
async fn issuer_with_an_untrusted_certificate_is_refused() {
    let (issuer, _) = issuer();
    let key = Key::ec256();
    issuer.publish(&[key.jwk("one")]);
    let mut test = trusting(url(&issuer, &Authority::named("another"))).await;
    assert!(test.log().contains("UnknownIssuer"), "{}", test.log());
    assert_eq!(test.bearer(&signed("one", &key)).await.grpc_status(), "14");
    assert_eq!(issuer.requests(), 0);
}

/// A token in the form of Keycloak.
fn keycloak(key: &Key) -> String {
    let roles = json!({"roles": null, "aud": null, "realm_access": {"roles": ["a"]}});
    token(json!({"alg": "ES256", "kid": "one"}), &claims(roles), key)
}

async fn status(running: &Running, token: &str) -> String {
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    let head = request(GET_USER.path).header("authorization", format!("Bearer {token}"));
    peer.call(head, framed("nobody")).await.grpc_status().to_owned()
}

#[tokio::test]
async fn trust_comes_from_the_setting_or_the_system() {
    let (issuer, authority) = issuer();
    let key = Key::ec256();
    let odd: Value = json!({"kty": "AKP", "kid": "odd"});
    issuer.publish(&[key.jwk("one"), odd]);
    let folder = Folder::new();
    let (url, ca) = (issuer.url(), folder.write("ca.pem", &authority.pem));
    let roles = ["--auth-roles-claim", "realm_access.roles", "--auth-allow", "a=*/GetUser"];
    let by_setting = [&["--auth-jwks", &url, "--auth-jwks-ca", &ca], &roles[..]].concat();
    let by_system = [&["--auth-jwks", &url], &roles[..]].concat();
    for (arguments, system) in [(&by_setting, "/nothing"), (&by_system, &ca)] {
        let running = Running::start(arguments, &[("SSL_CERT_FILE", system)]);
        assert!(running.before.contains("passed over"), "{}", running.before);
        assert_eq!(status(&running, &keycloak(&key)).await, "5");
        assert_eq!(status(&running, &keycloak(&Key::ec256())).await, "16");
    }
    let check = |arguments: &[&str]| {
        let mut command = user_server();
        let output = command.arg("check").args(["--store", "memory:"]).args(arguments).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, out) = check(&by_setting);
    let found = format!(
        "ok: --auth-jwks: {url}: 1 key: one (ES256); passed over: key \"odd\": its kty \"AKP\" is not \
         understood\n"
    );
    assert!(code == Some(0) && out.contains(&found), "{out}");
    issuer.answer(404, "");
    let (code, out) = check(&by_setting);
    let found = format!("error: --auth-jwks: {url}: the answer is 404 Not Found\n");
    assert!(code == Some(2) && out.contains(&found), "{out}");
}

#[test]
fn impossible_settings_are_one_clear_line() {
    for (arguments, parts) in [
        (&["--auth-jwks", "http://issuer/jwks"][..], ["--auth-jwks", "https://HOST"]),
        (&["--auth-jwks", "https://me:word@issuer/jwks"], ["--auth-jwks", "(secret)"]),
        (&["--auth-jwks", "j.json", "--auth-jwks-ca", "x"], ["--auth-jwks-ca", "auth.jwks"]),
        (&["--auth-jwks", "j.json", "--auth-jwks-refresh", "1m"], ["--auth-jwks-refresh", "URL"]),
        (&["--auth-roles-claim", "groups"], ["--auth-roles-claim", "auth.jwks"]),
        (
            &["--auth-jwks=https://a/b", "--auth-jwks-ca=/none", "--auth-allow=a=*"],
            ["--auth-jwks-ca", "/none"],
        ),
    ] {
        let line = complaint(arguments);
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        assert!(!line.contains("word"), "{line}");
    }
}

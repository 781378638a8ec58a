//! Attacks by tokens. The client always gets the same words; the log has the reason.

use balafon::interceptors::auth::KeyFile;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use h2::Reason;
use ring::hmac;
use serde_json::json;

use super::support::{Fixture, Key, UNARY, claims, hs256, now, token, trusting_the_secret};
use crate::support::is_native;
use crate::support::raw::Raw;

async fn fixture() -> Fixture {
    Fixture::new(trusting_the_secret).await
}

#[tokio::test]
async fn valid_token_is_accepted() {
    let mut test = fixture().await;
    let token = hs256(&claims(json!({})));
    test.assert_accepted(&token).await;
    // Again, from the cache.
    test.assert_accepted(&token).await;
}

#[tokio::test]
async fn missing_credentials_are_named_as_such() {
    let mut test = fixture().await;
    let reply = test.call(UNARY, &[]).await;
    assert_eq!(reply.grpc_status(), "16");
    assert_eq!(reply.trailer("grpc-message"), Some("authentication required"));
    assert!(test.log().contains("no credentials"));
}

#[tokio::test]
async fn algorithm_none_is_refused() {
    let mut test = fixture().await;
    for name in ["none", "None", "NONE", ""] {
        let header = json!({"alg": name, "typ": "JWT"});
        test.assert_refused(&token(header.clone(), &claims(json!({})), &Key::Nothing), "no header")
            .await;
        test.assert_refused(&token(header, &claims(json!({})), &Key::secret()), "no header").await;
    }
    let header = json!({"typ": "JWT"});
    test.assert_refused(&token(header, &claims(json!({})), &Key::secret()), "no header").await;
    let unsigned = token(json!({"alg": "HS256"}), &claims(json!({})), &Key::Nothing);
    test.assert_refused(&unsigned, "InvalidSignature").await;
}

#[tokio::test]
async fn public_key_is_no_hmac_secret() {
    let rsa = Key::Rsa(&ring::signature::RSA_PKCS1_SHA256);
    let pem = rsa.pem();
    let mut test =
        Fixture::new(|auth, files| auth.keys(KeyFile::pem(files.write("issuer.pem", &pem)))).await;
    test.assert_accepted(&token(json!({"alg": "RS256"}), &claims(json!({})), &rsa)).await;
    for secret in [pem.as_bytes(), pem.trim_end().as_bytes()] {
        let forged = Key::Secret(hmac::HMAC_SHA256, secret.to_vec());
        let forged = token(json!({"alg": "HS256"}), &claims(json!({})), &forged);
        test.assert_refused(&forged, "InvalidAlgorithm").await;
    }
}

#[tokio::test]
async fn algorithm_is_that_of_the_key() {
    // The same key and a valid signature, but not the algorithm of the key.
    let pem = Key::Rsa(&ring::signature::RSA_PKCS1_SHA256).pem();
    let mut test = Fixture::new(|auth, files| {
        auth.keys(KeyFile::pem(files.write("issuer.pem", pem)))
            .keys(KeyFile::secret(files.write("secret", super::support::SECRET)))
    })
    .await;
    let other = Key::Rsa(&ring::signature::RSA_PSS_SHA256);
    let other = token(json!({"alg": "PS256"}), &claims(json!({})), &other);
    test.assert_refused(&other, "InvalidAlgorithm").await;
    let other = Key::Secret(hmac::HMAC_SHA512, super::support::SECRET.into());
    let other = token(json!({"alg": "HS512"}), &claims(json!({})), &other);
    test.assert_refused(&other, "InvalidAlgorithm").await;
}

#[tokio::test]
async fn key_in_the_token_itself_is_not_used() {
    let mut test = fixture().await;
    let own = Key::ec256();
    let header = json!({"alg": "ES256", "jwk": own.jwk("own"), "jku": "https://evil.example"});
    test.assert_refused(&token(header, &claims(json!({})), &own), "InvalidAlgorithm").await;
}

#[tokio::test]
async fn expired_token_is_refused() {
    let mut test = fixture().await;
    // The leeway for clock differences is 30 seconds.
    test.assert_accepted(&hs256(&claims(json!({"exp": now() - 10})))).await;
    test.assert_refused(&hs256(&claims(json!({"exp": now() - 40}))), "ExpiredSignature").await;
    for exp in [json!(null), json!("never"), json!("99999999999"), json!(-1), json!([1])] {
        test.assert_refused(&hs256(&claims(json!({"exp": exp}))), "exp").await;
    }
}

#[tokio::test]
async fn token_expires_in_the_cache_too() {
    let mut test = Fixture::new(|auth, files| {
        trusting_the_secret(auth, files).leeway(std::time::Duration::ZERO)
    })
    .await;
    let token = hs256(&claims(json!({"exp": now() + 2})));
    test.assert_accepted(&token).await;
    test.until(&token, "16").await;
    test.assert_refused(&token, "ExpiredSignature").await;
}

#[tokio::test]
async fn token_not_yet_valid_is_refused() {
    let mut test = fixture().await;
    test.assert_accepted(&hs256(&claims(json!({"nbf": now() + 10})))).await;
    test.assert_refused(&hs256(&claims(json!({"nbf": now() + 60}))), "ImmatureSignature").await;
    test.assert_refused(&hs256(&claims(json!({"nbf": "now"}))), "nbf").await;
}

#[tokio::test]
async fn token_for_another_audience_is_refused() {
    let mut test = fixture().await;
    test.assert_accepted(&hs256(&claims(json!({"aud": ["others", "users"]})))).await;
    for audience in [json!("others"), json!(["others"]), json!("user"), json!([])] {
        let token = hs256(&claims(json!({"aud": audience})));
        test.assert_refused(&token, "InvalidAudience").await;
    }
    for audience in [json!(null), json!(7), json!({"users": 1})] {
        test.assert_refused(&hs256(&claims(json!({"aud": audience}))), "aud").await;
    }
}

#[tokio::test]
async fn token_of_another_issuer_is_refused() {
    let mut test = fixture().await;
    for issuer in ["https://issuer.example/", "https://evil.example", "HTTPS://ISSUER.EXAMPLE", ""]
    {
        test.assert_refused(&hs256(&claims(json!({"iss": issuer}))), "InvalidIssuer").await;
    }
    test.assert_refused(&hs256(&claims(json!({"iss": null}))), "iss").await;
}

#[tokio::test]
async fn unknown_kid_is_refused() {
    let key = Key::ec256();
    let mut test = Fixture::new(|auth, files| {
        let jwks = json!({"keys": [key.jwk("one")]}).to_string();
        auth.keys(KeyFile::jwks(files.write("jwks.json", jwks)))
    })
    .await;
    let with_kid = |kid: &str| token(json!({"alg": "ES256", "kid": kid}), &claims(json!({})), &key);
    test.assert_accepted(&with_kid("one")).await;
    for kid in ["two", "", "One", "../../dev/null", "one' OR 1=1"] {
        test.assert_refused(&with_kid(kid), "unknown kid").await;
    }
    let without = token(json!({"alg": "ES256"}), &claims(json!({})), &key);
    test.assert_refused(&without, "no kid, and all keys have one").await;
    // The token's text does not fill the log.
    test.assert_refused(&with_kid(&"k".repeat(2000)), &format!("{}…", "k".repeat(64))).await;
    assert!(!test.log().contains(&"k".repeat(65)));
}

#[tokio::test]
async fn unnamed_key_verifies_tokens_with_any_kid() {
    let pem = Key::ec256();
    let mut test = Fixture::new(|auth, files| {
        trusting_the_secret(auth, files).keys(KeyFile::pem(files.write("issuer.pem", pem.pem())))
    })
    .await;
    for kid in [json!("any"), json!(""), json!("../../dev/null"), json!(null)] {
        for (name, key) in [("HS256", &Key::secret()), ("ES256", &pem)] {
            let header = json!({"alg": name, "kid": kid});
            test.assert_accepted(&token(header.clone(), &claims(json!({})), key)).await;
            let forged = match name {
                "HS256" => {
                    Key::Secret(hmac::HMAC_SHA256, b"another secret of 32 bytes......".into())
                }
                _ => Key::ec256(),
            };
            let forged = token(header, &claims(json!({})), &forged);
            test.assert_refused(&forged, "InvalidSignature").await;
        }
        // The algorithm stays that of the key.
        let other = Key::Secret(hmac::HMAC_SHA512, super::support::SECRET.into());
        let other = token(json!({"alg": "HS512", "kid": kid}), &claims(json!({})), &other);
        test.assert_refused(&other, "InvalidAlgorithm").await;
    }
    let odd = token(json!({"alg": "HS256", "kid": 7}), &claims(json!({})), &Key::secret());
    test.assert_refused(&odd, "its kid is not a text").await;
}

#[tokio::test]
async fn named_keys_are_tried_before_unnamed_ones() {
    let [one, two, nameless] = [Key::ec256(), Key::ec256(), Key::ec256()];
    let mut without_kid = nameless.jwk("");
    without_kid.as_object_mut().unwrap().remove("kid");
    let jwks = json!({"keys": [without_kid, one.jwk("one"), two.jwk("two")]}).to_string();
    let mut test =
        Fixture::new(|auth, files| auth.keys(KeyFile::jwks(files.write("jwks.json", jwks)))).await;
    let by = |kid, key| token(json!({"alg": "ES256", "kid": kid}), &claims(json!({})), key);
    test.assert_accepted(&by(json!("one"), &one)).await;
    test.assert_accepted(&by(json!("two"), &two)).await;
    test.assert_refused(&by(json!("one"), &two), "InvalidSignature").await;
    for kid in [json!("one"), json!("three"), json!(null)] {
        test.assert_accepted(&by(kid, &nameless)).await;
    }
    test.assert_refused(&by(json!("three"), &one), "InvalidSignature").await;
    test.assert_refused(&by(json!(null), &one), "InvalidSignature").await;
}

#[tokio::test]
async fn tampered_token_is_refused() {
    let mut test = fixture().await;
    let good = hs256(&claims(json!({})));
    // Cached: the next tokens must not be taken for this one.
    test.assert_accepted(&good).await;
    let parts: Vec<_> = good.split('.').collect();
    let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let admin = encode(claims(json!({"roles": ["admin"]})));
    let payload = [parts[0], &admin, parts[2]].join(".");
    test.assert_refused(&payload, "InvalidSignature").await;
    let header = [&encode(json!({"alg": "HS256"})), parts[1], parts[2]].join(".");
    test.assert_refused(&header, "InvalidSignature").await;

    let mut signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    for at in [0, 15, 31] {
        signature[at] ^= 1;
        let tampered = [parts[0], parts[1], &URL_SAFE_NO_PAD.encode(&signature)].join(".");
        test.assert_refused(&tampered, "InvalidSignature").await;
        signature[at] ^= 1;
    }
    let cut = URL_SAFE_NO_PAD.encode(&signature[..31]);
    test.assert_refused(&[parts[0], parts[1], &cut].join("."), "InvalidSignature").await;
}

#[tokio::test]
async fn malformed_token_is_refused() {
    let mut test = fixture().await;
    let good = hs256(&claims(json!({})));
    for text in ["x", "..", ".", "a.b.c", "e30.e30.e30", &format!("{good}."), &format!("{good}=")] {
        let reply = test.bearer(text).await;
        test.assert_invalid(&reply, "unauthenticated");
    }
    for claims in [json!([1]), json!("text"), json!({})] {
        let reply = test.bearer(&hs256(&claims)).await;
        test.assert_invalid(&reply, "unauthenticated");
    }
    for subject in [json!(null), json!(""), json!(7)] {
        test.assert_refused(&hs256(&claims(json!({"sub": subject}))), "sub").await;
    }
}

#[tokio::test]
async fn critical_extension_is_refused() {
    let mut test = fixture().await;
    let header = json!({"alg": "HS256", "crit": ["b64"], "b64": false});
    test.assert_refused(&token(header, &claims(json!({})), &Key::secret()), "(crit)").await;
}

#[tokio::test]
async fn huge_token_is_refused_unread() {
    let mut test = fixture().await;
    let huge = hs256(&claims(json!({"padding": "x".repeat(8 * 1024)})));
    test.assert_refused(&huge, &format!("a token of {} bytes", huge.len())).await;
    test.assert_accepted(&hs256(&claims(json!({"padding": "x".repeat(5 * 1024)})))).await;
}

#[tokio::test]
async fn repeated_authorization_header_is_refused() {
    let mut test = fixture().await;
    let good = format!("Bearer {}", hs256(&claims(json!({}))));
    for [first, second] in [[&*good, &good], [&good, "Bearer x"], ["Bearer x", &good], [&good, ""]]
    {
        let headers = [("authorization", first), ("authorization", second)];
        let reply = test.call(UNARY, &headers).await;
        test.assert_invalid(&reply, "authorization came more than once");
    }
    let joined = format!("{good}, {good}");
    let reply = test.call(UNARY, &[("authorization", &joined)]).await;
    test.assert_invalid(&reply, "unauthenticated");
}

#[tokio::test]
async fn other_scheme_is_refused() {
    let mut test = fixture().await;
    let good = hs256(&claims(json!({})));
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer ", "bearer    "] {
        let reply = test.call(UNARY, &[("authorization", &format!("{scheme} {good}"))]).await;
        assert_eq!(reply.grpc_status(), "0");
    }
    for value in [&good, "Bearer", "Bearer ", &format!("Basic {good}"), &format!("Bearer\t{good}")]
    {
        let reply = test.call(UNARY, &[("authorization", value)]).await;
        test.assert_invalid(&reply, "not of the scheme Bearer");
    }
    let reply = test.call(UNARY, &[("authorization", "Bearer   ")]).await;
    test.assert_invalid(&reply, "not of the scheme Bearer");
}

#[tokio::test]
async fn metadata_key_in_upper_case_ends_the_connection() {
    let test = fixture().await;
    let good = format!("Bearer {}", hs256(&claims(json!({}))));
    for name in ["Authorization", "AUTHORIZATION", "authorizatioN"] {
        let mut raw = Raw::connect(test.server.addr).await;
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", UNARY),
            (":authority", "test"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            (name, &good),
        ];
        raw.request(1, &fields, b"").await;
        // RFC 9113, 8.1.1: an error of the stream. h2 closes the connection.
        if is_native() {
            assert!(raw.next_of(1).await.is_reset(Reason::PROTOCOL_ERROR), "{name}");
        } else {
            let goodbye = raw.goodbye().await.unwrap();
            assert_eq!(goodbye.reason(), Reason::PROTOCOL_ERROR, "{name}");
        }
        assert_eq!(test.principal(), None);
    }
}

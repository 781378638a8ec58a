//! Files that change while the server runs.

use std::time::Duration;

use balafon::interceptors::auth::{Auth, DevelopmentToken, KeyFile};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use super::support::{
    AUDIENCE, Fixture, ISSUER, Key, SECRET, UNARY, claims, hs256, replace, token,
    trusting_the_secret,
};
use crate::support::folder::Folder;
use crate::support::patiently;

#[tokio::test]
async fn keys_rotate() {
    let (old, new) = (Key::ec256(), Key::ec256());
    let jwks = |keys: &[serde_json::Value]| json!({"keys": keys}).to_string();
    let mut test = Fixture::new(|auth, files| {
        auth.keys(KeyFile::jwks(files.write("jwks.json", jwks(&[old.jwk("old")]))))
    })
    .await;
    let signed = |kid, key| token(json!({"alg": "ES256", "kid": kid}), &claims(json!({})), key);
    let (by_old, by_new) = (signed("old", &old), signed("new", &new));
    test.assert_accepted(&by_old).await;
    test.assert_refused(&by_new, "unknown kid").await;

    let path = test.files.path("jwks.json");
    replace(&path, jwks(&[old.jwk("old"), new.jwk("new")]));
    test.until(&by_new, "0").await;
    test.assert_accepted(&by_old).await;

    // The cached token of the removed key is refused too.
    replace(&path, jwks(&[new.jwk("new")]));
    test.until(&by_old, "16").await;
    test.assert_refused(&by_old, "unknown kid").await;
    test.assert_accepted(&by_new).await;

    // Another key with the same name.
    replace(&path, jwks(&[old.jwk("new")]));
    test.until(&by_new, "16").await;
    test.assert_refused(&by_new, "InvalidSignature").await;
}

#[tokio::test]
async fn unsupported_jwks_key_is_skipped_and_logged() {
    let (old, new) = (Key::ec256(), Key::ed25519());
    let odd = |kid| json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": kid, "pub": "AQAB"});
    let short = json!({"kty": "EC", "crv": "P-256", "kid": "short", "x": "AQAB", "y": "AQAB"});
    let mut test = Fixture::new(|auth, files| {
        let jwks = json!({"keys": [odd("first"), old.jwk("old"), short]}).to_string();
        auth.keys(KeyFile::jwks(files.write("jwks.json", jwks)))
    })
    .await;
    for (kid, why) in [("first", "its kty"), ("short", "its x has 3 bytes: wanted 32")] {
        let log = test.log();
        let line = log.lines().find(|line| line.contains(kid)).unwrap();
        assert!(line.contains("passed over") && line.contains(why), "{line}");
    }
    let by_old = token(json!({"alg": "ES256", "kid": "old"}), &claims(json!({})), &old);
    test.assert_accepted(&by_old).await;

    let path = test.files.path("jwks.json");
    replace(&path, json!({"keys": [odd("later"), new.jwk("new")]}).to_string());
    // Both names of its algorithm are accepted.
    for algorithm in ["Ed25519", "EdDSA"] {
        let header = json!({"alg": algorithm, "kid": "new"});
        test.until(&token(header, &claims(json!({})), &new), "0").await;
    }
    test.logged("key \\\"later\\\"").await;

    // A JWKS without any usable key is an error.
    replace(&path, json!({"keys": [odd("last")]}).to_string());
    test.logged("no key in the JWKS that can be used").await;
    let header = json!({"alg": "Ed25519", "kid": "new"});
    test.assert_accepted(&token(header, &claims(json!({})), &new)).await;
    let last = test.files.write("last.json", json!({"keys": [odd("last")]}).to_string());
    let error = Auth::builder().keys(KeyFile::jwks(last)).build().unwrap_err().to_string();
    assert!(error.contains("key \"last\": its kty \"AKP\" is not understood"), "{error}");
}

#[tokio::test]
async fn broken_file_leaves_its_former_contents_in_force() {
    let key = Key::ec256();
    let good = json!({"keys": [key.jwk("one")]}).to_string();
    let mut test =
        Fixture::new(|auth, files| auth.keys(KeyFile::jwks(files.write("jwks.json", &good)))).await;
    let token = token(json!({"alg": "ES256", "kid": "one"}), &claims(json!({})), &key);
    let path = test.files.path("jwks.json");
    for broken in ["", "{", r#"{"keys": []}"#, &good[..good.len() - 2]] {
        let errors = test.log().matches("stays in force").count();
        replace(&path, broken);
        patiently(async {
            while test.log().matches("stays in force").count() == errors {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        test.assert_accepted(&token).await;
    }
    std::fs::remove_file(&path).unwrap();
    test.logged("No such file").await;
    test.assert_accepted(&token).await;
}

#[tokio::test]
async fn revoked_token_is_refused() {
    let mut test = Fixture::new(|auth, files| {
        trusting_the_secret(auth, files).revoked(files.write("revoked", "# none yet\n"))
    })
    .await;
    let (first, second) = (hs256(&claims(json!({}))), hs256(&claims(json!({"jti": "token-2"}))));
    test.assert_accepted(&first).await;
    test.files.write("revoked", "token-0\ntoken-1 # stolen\n");
    test.until(&first, "16").await;
    test.assert_refused(&first, "revoked: jti \\\"token-1\\\"").await;
    test.assert_accepted(&second).await;
    let nameless = hs256(&claims(json!({"jti": null})));
    test.assert_refused(&nameless, "no jti").await;
}

#[tokio::test]
async fn revoked_id_may_have_a_hash_sign() {
    let mut test = Fixture::new(|auth, files| {
        let revoked = "\u{feff}abc#1\t# stolen\r\nx#\r\n# y\r\n";
        trusting_the_secret(auth, files).revoked(files.write("revoked", revoked))
    })
    .await;
    let of = |jti: &str| hs256(&claims(json!({"jti": jti})));
    test.assert_refused(&of("abc#1"), "revoked: jti \\\"abc#1\\\"").await;
    test.assert_refused(&of("x#"), "revoked: jti \\\"x#\\\"").await;
    for good in ["abc", "abc#", "abc#2", "x", "y"] {
        test.assert_accepted(&of(good)).await;
    }
    // Tokens without a usable `jti` could never be revoked.
    for unnameable in ["", "#abc", "abc 1", "abc#1 "] {
        test.assert_refused(&of(unnameable), "no line can revoke the jti").await;
    }
}

#[tokio::test]
async fn revocation_survives_an_emptied_and_rewritten_file() {
    let mut test = Fixture::new(|auth, files| {
        trusting_the_secret(auth, files).revoked(files.write("revoked", "token-1\n"))
    })
    .await;
    let (token, other) = (hs256(&claims(json!({}))), hs256(&claims(json!({"jti": "token-2"}))));
    test.assert_refused(&token, "revoked").await;
    for empty in ["", "\n", " \r\n", "\u{feff}"] {
        test.clear_log();
        test.files.write("revoked", empty);
        test.logged("ERROR").await;
        assert!(test.log().contains("has become empty"), "{}", test.log());
        test.assert_refused(&token, "revoked").await;
        test.files.write("revoked", "token-1\ntoken-2\n");
        test.until(&other, "16").await;
        test.assert_refused(&token, "revoked").await;
        test.files.write("revoked", "token-1\n");
        test.until(&other, "0").await;
    }
    // An emptied file counts if its comment says that it is meant to be empty.
    test.files.write("revoked", "# none\n");
    test.until(&token, "0").await;
}

#[tokio::test]
async fn emptied_file_leaves_its_former_contents_in_force() {
    // The SHA-256 of "key".
    let line = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683 robot#1 reader#";
    let mut test = Fixture::new(|auth, files| {
        auth.api_keys(files.write("keys", line)).certificates(files.write("names", "a#b reader"))
    })
    .await;
    for name in ["keys", "names"] {
        test.clear_log();
        test.files.write(name, "");
        test.logged("has become empty").await;
    }
    let reply = test.call(UNARY, &[("x-api-key", "key")]).await;
    assert_eq!(reply.grpc_status(), "7", "known, and allowed nothing");
    assert!(test.log().contains("robot#1"), "{}", test.log());
}

#[tokio::test]
async fn key_of_each_kind_verifies_its_signatures() {
    use ring::hmac::{HMAC_SHA384, HMAC_SHA512};
    use ring::signature as rs;
    let keys = [
        ("HS384", Key::Secret(HMAC_SHA384, SECRET.into())),
        ("HS512", Key::Secret(HMAC_SHA512, SECRET.into())),
        ("RS256", Key::Rsa(&rs::RSA_PKCS1_SHA256)),
        ("RS384", Key::Rsa(&rs::RSA_PKCS1_SHA384)),
        ("RS512", Key::Rsa(&rs::RSA_PKCS1_SHA512)),
        ("PS256", Key::Rsa(&rs::RSA_PSS_SHA256)),
        ("PS384", Key::Rsa(&rs::RSA_PSS_SHA384)),
        ("PS512", Key::Rsa(&rs::RSA_PSS_SHA512)),
        ("ES256", Key::ec256()),
        ("ES384", Key::ec384()),
        ("EdDSA", Key::ed25519()),
        ("Ed25519", Key::ed25519()),
    ];
    let mut test = Fixture::new(|auth, files| {
        keys.iter().fold(auth, |auth, (name, key)| {
            let file = match key {
                Key::Secret(..) => KeyFile::secret(files.write(name, SECRET)),
                _ => KeyFile::pem(files.write(name, key.pem())),
            };
            auth.keys(file.algorithm(*name).kid(*name))
        })
    })
    .await;
    for (name, key) in &keys {
        let good = token(json!({"alg": name, "kid": name}), &claims(json!({})), key);
        test.assert_accepted(&good).await;
        let tampered = token(json!({"alg": name, "kid": name}), &claims(json!({"n": 1})), key);
        let tampered = [good.rsplit_once('.').unwrap().0, tampered.rsplit('.').next().unwrap()];
        test.assert_refused(&tampered.join("."), "InvalidSignature").await;
    }
}

#[tokio::test]
async fn jwks_of_an_identity_provider_is_understood() {
    // An RSA key whose number starts with a zero, keys for other uses, keys of unknown types.
    let key = Key::Rsa(&ring::signature::RSA_PKCS1_SHA256);
    let pem = key.pem();
    let base64: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    let der = STANDARD.decode(base64).unwrap();
    // The end of the encoding: a 2048-bit modulus after a zero; tag, length and three bytes of the
    // exponent.
    let end = der.len() - 5;
    let modulus = URL_SAFE_NO_PAD.encode(&der[end - 257..end]);
    let jwks = json!({"keys": [
        {"kty": "RSA", "use": "enc", "alg": "RSA-OAEP-256", "kid": "enc", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "crv": "secp256k1", "kid": "coin", "x": "AQAB", "y": "AQAB"},
        {"kty": "XYZ", "kid": "later"},
        {"kty": "RSA", "alg": "RS256", "kid": "rsa", "n": modulus, "e": "AQAB",
         "x5c": ["ignored"], "x5t": "ignored"},
    ]});
    let mut test = Fixture::new(|auth, files| {
        auth.keys(KeyFile::jwks(files.write("jwks.json", jwks.to_string())))
    })
    .await;
    let good = token(json!({"alg": "RS256", "kid": "rsa"}), &claims(json!({})), &key);
    test.assert_accepted(&good).await;
    let by_other = token(json!({"alg": "RS256", "kid": "enc"}), &claims(json!({})), &key);
    test.assert_refused(&by_other, "unknown kid").await;
}

#[test]
fn unusable_files_are_explained_without_secrets() {
    let files = Folder::new();
    let pem = Key::ec256().pem();
    let jwk = Key::ec256().jwk("one");
    let mut other = jwk.clone();
    other["alg"] = json!("RS256");
    let weak = json!({"keys": [{"kty": "oct", "kid": "weak", "k": "c2VjcmV0"}]}).to_string();
    let cases = [
        (KeyFile::secret(files.write("a", "short-one")), "32 bytes"),
        (KeyFile::secret(files.write("b", &pem)), "no secret"),
        (KeyFile::secret(files.write("c", SECRET)).algorithm("RS256"), "RS256 is not for a secret"),
        (KeyFile::secret(files.write("d", SECRET)).algorithm("none"), "unknown algorithm"),
        (KeyFile::pem(files.write("e", SECRET)), "no public key"),
        (
            KeyFile::pem(files.write("f", &pem)).algorithm("HS256"),
            "HS256 is not for a key of ES256",
        ),
        (KeyFile::pem(files.write("g", &pem)).algorithm("ES384"), "ES384 is not for"),
        (KeyFile::jwks(files.write("h", &pem)), "not a JWKS"),
        (KeyFile::jwks(files.write("i", json!({"keys": [other]}).to_string())), "RS256 is not for"),
        (KeyFile::jwks(files.write("j", &weak)), "32 bytes"),
        (KeyFile::jwks(files.path("missing")), "No such file"),
        (KeyFile::secret(files.write("m", format!("\u{feff}{SECRET}"))), "byte order mark"),
    ];
    for (keys, why) in cases {
        let error = Auth::builder().keys(keys).build().unwrap_err().to_string();
        assert!(error.contains(why), "{why:?} is not in {error:?}");
        assert!(!error.contains("short-one") && !error.contains(SECRET), "{error}");
    }
    assert!(Auth::builder().revoked(files.write("k", "")).build().is_err());
    assert!(Auth::builder().api_keys(files.write("l", "not hashed")).build().is_err());
    assert!(Auth::builder().leeway(Duration::MAX).build().is_err());
}

#[test]
fn summaries_of_files_show_no_secret() {
    let files = Folder::new();
    let key = Key::ec256();
    let odd = json!({"kty": "XYZ", "kid": "odd"});
    let jwks = format!("\u{feff}{}", json!({"keys": [key.jwk("b"), odd, key.jwk("a#1")]}));
    let pem = format!("\u{feff}{}", key.pem());
    let hash = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683";
    let auth = Auth::builder()
        .keys(KeyFile::jwks(files.write("jwks", jwks)))
        .keys(KeyFile::pem(files.write("pem", pem)))
        .keys(KeyFile::secret(files.write("secret", format!("{SECRET} \n"))))
        .revoked(files.write("revoked", "abc#1 # why\nb\n"))
        .api_keys(files.write("api-keys", format!("{hash} robot#1 a,b # who\n")))
        .certificates(files.write("certificates", "# nobody\n"))
        .build()
        .unwrap();
    let holds: Vec<_> = auth.files().map(|(_, holds)| holds).collect();
    let len = SECRET.len() + 1;
    assert_eq!(
        holds,
        [
            "2 keys: a#1 (ES256), b (ES256); passed over: key \"odd\": its kty \"XYZ\" is not \
             understood",
            "1 key: (ES256)",
            &format!("1 key: (HS256, {len} bytes)"),
            "2 revoked ids: abc#1, b",
            "1 API key: robot#1 (a, b)",
            "0 certificate names",
        ]
    );
}

#[tokio::test]
async fn development_token_is_accepted() {
    let mut test = Fixture::new(trusting_the_secret).await;
    let token = DevelopmentToken::new("alice", Duration::from_secs(60))
        .claim("iss", ISSUER)
        .claim("aud", AUDIENCE)
        .roles(["reader"])
        .sign(&test.files.path("secret"), "HS256")
        .unwrap();
    test.assert_accepted(&token).await;
}

#[test]
fn debug_shows_no_secrets() {
    let files = Folder::new();
    let auth = trusting_the_secret(super::support::builder(), &files).build().unwrap();
    let shown = format!("{auth:?} {:?}", KeyFile::secret(files.path("secret")));
    assert!(!shown.contains("a secret") && !shown.contains(&format!("{:?}", SECRET.as_bytes())));
}

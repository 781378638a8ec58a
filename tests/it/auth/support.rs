//! An issuer that signs any token, and a server that trusts it.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use balafon::interceptors::auth::{Auth, AuthBuilder, KeyFile, Permissions};
use balafon::services::health::Health;
use balafon::{Call, Interceptor, Next, Outcome, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    RsaKeyPair,
};
use ring::{hmac, signature};
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;

use crate::support::TestServer;
use crate::support::echo::Echo;
use crate::support::folder::Folder;
use crate::support::log::Log;
use crate::support::peer::{Peer, Reply, framed, request};

pub const SECRET: &str = "a secret of just 64 bytes, for the longest of hashes, it is so...";
pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "users";
/// The role `reader` may call this method.
pub const UNARY: &str = "/test.Echo/Unary";

/// A key and its way of signing.
pub enum Key {
    Secret(hmac::Algorithm, Vec<u8>),
    Rsa(&'static dyn signature::RsaEncoding),
    Ec(KeyPair),
    Ed(KeyPair),
    Nothing,
}

impl Key {
    pub fn secret() -> Self {
        Self::Secret(hmac::HMAC_SHA256, SECRET.into())
    }

    pub fn ec256() -> Self {
        Self::Ec(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap())
    }

    pub fn ec384() -> Self {
        Self::Ec(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap())
    }

    pub fn ed25519() -> Self {
        Self::Ed(KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())
    }

    /// The public half.
    pub fn pem(&self) -> String {
        match self {
            Self::Rsa(_) => rsa().public_key_pem(),
            Self::Ec(pair) | Self::Ed(pair) => pair.public_key_pem(),
            Self::Secret(..) | Self::Nothing => panic!("there is none"),
        }
    }

    /// The public half of an elliptic-curve key, as an entry of a JWKS.
    pub fn jwk(&self, kid: &str) -> Value {
        let encode = |number| URL_SAFE_NO_PAD.encode(number);
        match self {
            Self::Ec(pair) => {
                let point = pair.public_key_raw();
                let (x, y) = point[1..].split_at(point.len() / 2);
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig",
                       "x": encode(x), "y": encode(y)})
            }
            Self::Ed(pair) => {
                let x = encode(pair.public_key_raw());
                json!({"kty": "OKP", "crv": "Ed25519", "alg": "Ed25519", "kid": kid, "x": x})
            }
            Self::Secret(..) | Self::Rsa(_) | Self::Nothing => panic!("a key on a curve"),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Nothing => Vec::new(),
            Self::Secret(algorithm, secret) => {
                hmac::sign(&hmac::Key::new(*algorithm, secret), message).as_ref().to_vec()
            }
            Self::Rsa(encoding) => {
                let pair = RsaKeyPair::from_pkcs8(rsa().serialized_der()).unwrap();
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ec(pair) => {
                let algorithm = match pair.public_key_raw().len() {
                    65 => &ECDSA_P256_SHA256_FIXED_SIGNING,
                    _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
                };
                let pair = EcdsaKeyPair::from_pkcs8(algorithm, pair.serialized_der(), &random);
                pair.unwrap().sign(&random, message).unwrap().as_ref().to_vec()
            }
            Self::Ed(pair) => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pair.serialized_der());
                pair.unwrap().sign(message).as_ref().to_vec()
            }
        }
    }
}

/// A key for tests, made by `openssl genpkey -algorithm RSA`: ring generates none.
fn rsa() -> KeyPair {
    KeyPair::from_pem(include_str!("rsa.pem")).unwrap()
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of a valid token, with changes; `null` removes a claim.
pub fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "sub": "alice", "roles": ["reader"], "iss": ISSUER, "aud": AUDIENCE, "exp": now() + 600,
        "jti": "token-1",
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

/// A token with any header and claims.
pub fn token(header: Value, claims: &Value, key: &Key) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// A well-formed token, signed with HS256.
pub fn hs256(claims: &Value) -> String {
    token(json!({"alg": "HS256", "typ": "JWT"}), claims, &Key::secret())
}

/// The principal of a call that reached the handler.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Option<balafon::interceptors::auth::Principal>>>);

impl Interceptor for Seen {
    async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
        *self.0.lock().unwrap() = call.extensions().get().cloned();
        next.run(call).await
    }
}

pub struct Fixture {
    pub files: Folder,
    pub server: TestServer,
    pub peer: Peer,
    seen: Seen,
    log: Log,
    _guard: DefaultGuard,
}

/// The settings of most tests: a secret, an issuer, an audience.
pub fn trusting_the_secret(auth: AuthBuilder, files: &Folder) -> AuthBuilder {
    auth.keys(KeyFile::secret(files.write("secret", format!("{SECRET}\n"))))
}

pub fn builder() -> AuthBuilder {
    let permissions = Permissions::new()
        .open("grpc.health.v1.Health/*")
        .and_then(|it| it.role("reader", ["test.Echo/Unary"]))
        .and_then(|it| it.role("admin", ["*"]))
        .and_then(|it| it.scope("echo.count", ["*/Server"]))
        .unwrap();
    Auth::builder()
        .issuer(ISSUER)
        .audience(AUDIENCE)
        .permissions(permissions)
        .reload_every(Duration::from_millis(5))
}

impl Fixture {
    pub async fn new(set: impl FnOnce(AuthBuilder, &Folder) -> AuthBuilder) -> Self {
        Self::with_server(
            crate::support::server(),
            set,
            |addr| async move { Peer::connect(addr).await },
        )
        .await
    }

    pub async fn with_server<F: Future<Output = Peer>>(
        server: balafon::Server,
        set: impl FnOnce(AuthBuilder, &Folder) -> AuthBuilder,
        connect: impl FnOnce(std::net::SocketAddr) -> F,
    ) -> Self {
        let (log, guard) = Log::start(tracing::Level::TRACE);
        let (files, seen) = (Folder::new(), Seen::default());
        let auth = set(builder(), &files).build().unwrap();
        let router = Router::new()
            .intercept(auth)
            .intercept(seen.clone())
            .add(Echo::default().service())
            .add(Health::new().service());
        let server = TestServer::start_with(server, router).await;
        let peer = connect(server.addr).await;
        Self { files, server, peer, seen, log, _guard: guard }
    }

    pub async fn call(&mut self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.principal();
        let request = headers
            .iter()
            .fold(request(path), |request, (name, value)| request.header(*name, *value));
        self.peer.call(request, framed("hello")).await
    }

    pub async fn bearer(&mut self, token: &str) -> Reply {
        self.call(UNARY, &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// The principal of the last call; `None` if it did not reach the handler.
    pub fn principal(&self) -> Option<balafon::interceptors::auth::Principal> {
        self.seen.0.lock().unwrap().take()
    }

    pub async fn assert_accepted(&mut self, token: &str) {
        let reply = self.bearer(token).await;
        assert_eq!(reply.grpc_status(), "0", "{}", self.log.take());
        assert_eq!(self.principal().unwrap().name(), "alice");
    }

    /// Asserts that the client learns no reason, and that the log has `why` without the token.
    pub async fn assert_refused(&mut self, token: &str, why: &str) {
        self.log.take();
        let reply = self.bearer(token).await;
        self.assert_invalid(&reply, why);
        let log = self.log.take();
        let secret = token.rsplit('.').next().filter(|signature| !signature.is_empty());
        assert!(secret.is_none_or(|signature| !log.contains(signature)), "{log}");
    }

    pub fn assert_invalid(&self, reply: &Reply, why: &str) {
        assert_eq!(reply.grpc_status(), "16");
        assert_eq!(reply.trailer("grpc-message"), Some("invalid credentials"));
        assert!(reply.is_trailers_only() && reply.trailer("grpc-status-details-bin").is_none());
        assert_eq!(self.principal(), None);
        let log = self.log.text();
        assert!(log.contains(why), "{why:?} is not in the log: {log}");
    }

    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until the log has this text.
    pub async fn logged(&self, text: &str) {
        crate::support::patiently(async {
            while !self.log().contains(text) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    pub fn clear_log(&self) {
        self.log.take();
    }

    /// Repeats the call until the answer has this status.
    pub async fn until(&mut self, token: &str, status: &str) {
        let reached = async {
            while self.bearer(token).await.grpc_status() != status {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        crate::support::patiently(reached).await;
    }
}

/// Replaces a file by renaming a new one, as key rotation does.
pub fn replace(path: &Path, text: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

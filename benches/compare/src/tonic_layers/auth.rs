//! Lets calls pass that carry a JWT whose roles allow the method. Tokens that were found valid are remembered.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use compare::production::{AUDIENCE, ISSUER, ROLES};
use futures_util::future::{Either, Ready, ready};
use http::header::AUTHORIZATION;
use http::{Request, Response};
use ring::hmac::{self, HMAC_SHA256};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tonic::Status;
use tonic::body::Body;
use tower::layer::layer_fn;
use tower::{Layer, Service};

/// Who calls, in the request's extensions.
#[derive(Debug, Clone)]
pub struct Principal(Arc<Claims>);

impl Principal {
    pub fn name(&self) -> &Arc<str> {
        &self.0.sub
    }
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: Arc<str>,
    iss: String,
    aud: String,
    exp: u64,
    roles: Vec<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

struct State {
    key: hmac::Key,
    valid: RwLock<HashMap<Box<str>, Principal>>,
}

/// # Errors
/// If the secret cannot be read.
pub fn layer<S>(secret: &Path) -> io::Result<impl Layer<S, Service = Auth<S>> + Clone> {
    let key = hmac::Key::new(HMAC_SHA256, &fs::read(secret)?);
    let state = Arc::new(State { key, valid: RwLock::default() });
    Ok(layer_fn(move |inner| Auth { inner, state: state.clone() }))
}

#[derive(Clone)]
pub struct Auth<S> {
    inner: S,
    state: Arc<State>,
}

impl<S> Service<Request<Body>> for Auth<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.state.authorize(&request) {
            Ok(principal) => {
                request.extensions_mut().insert(principal);
                Either::Left(self.inner.call(request))
            }
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}

impl State {
    fn authorize(&self, request: &Request<Body>) -> Result<Principal, Status> {
        let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| Status::unauthenticated("authentication required"))?;
        let principal = self.principal(token)?;
        let path = request.uri().path();
        let allowed = |role: &String| {
            ROLES.iter().any(|(name, methods)| {
                name == role && methods.iter().any(|method| path.ends_with(method))
            })
        };
        if principal.0.roles.iter().any(allowed) {
            Ok(principal)
        } else {
            Err(Status::permission_denied("permission denied"))
        }
    }

    fn principal(&self, token: &str) -> Result<Principal, Status> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let valid = self.valid.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(principal) = valid.get(token).filter(|principal| principal.0.exp > now) {
            return Ok(principal.clone());
        }
        drop(valid);
        let claims = verified(&self.key, token).filter(|claims| claims.exp > now);
        let claims = claims.ok_or_else(|| Status::unauthenticated("invalid credentials"))?;
        let principal = Principal(Arc::new(claims));
        let mut valid = self.valid.write().unwrap_or_else(PoisonError::into_inner);
        valid.insert(token.into(), principal.clone());
        Ok(principal)
    }
}

/// The claims of a token that is signed with the key, and for us.
fn verified(key: &hmac::Key, token: &str) -> Option<Claims> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
    hmac::verify(key, signed.as_bytes(), &signature).ok()?;
    let claims: Claims = parsed(claims)?;
    let good =
        parsed::<Header>(header)?.alg == "HS256" && claims.iss == ISSUER && claims.aud == AUDIENCE;
    good.then_some(claims)
}

fn parsed<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

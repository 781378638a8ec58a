//! Lets calls pass that carry a JWT whose roles allow the method. Tokens that were found valid are remembered.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

use compare::production::{AUDIENCE, ISSUER, ROLES};
use futures_util::future::{Either, Ready, ready};
use http::header::AUTHORIZATION;
use http::{Request, Response};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use tonic::Status;
use tonic::body::Body;
use tower::layer::layer_fn;
use tower::{Layer, Service};

/// Who calls, in the request's extensions.
#[derive(Debug, Clone)]
pub struct Principal(#[allow(dead_code)] Arc<Claims>);

#[derive(Debug, Deserialize)]
struct Claims {
    #[allow(dead_code)] // For handlers, as `balafon::interceptors::auth::Principal` has it.
    sub: String,
    exp: u64,
    roles: Vec<String>,
}

struct State {
    key: DecodingKey,
    validation: Validation,
    valid: RwLock<HashMap<Box<str>, Principal>>,
}

/// # Errors
/// If the secret cannot be read.
pub fn layer<S>(secret: &Path) -> io::Result<impl Layer<S, Service = Auth<S>> + Clone> {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    let key = DecodingKey::from_secret(&fs::read(secret)?);
    let state = Arc::new(State { key, validation, valid: RwLock::default() });
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
        let allowed = |role: &String| ROLES.iter().any(|(name, methods)| {
            name == role && methods.iter().any(|method| path.ends_with(method))
        });
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
        let decoded = decode::<Claims>(token, &self.key, &self.validation)
            .map_err(|_| Status::unauthenticated("invalid credentials"))?;
        let principal = Principal(Arc::new(decoded.claims));
        let mut valid = self.valid.write().unwrap_or_else(PoisonError::into_inner);
        valid.insert(token.into(), principal.clone());
        Ok(principal)
    }
}

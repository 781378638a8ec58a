//! Authentication and permissions.
//!
//! ```text
//! an Authenticator         -> authenticator  the application's own, asked first
//! authorization: Bearer …  -> jwt            keys (PEM, secret, JWKS of a file or a URL), claims, revocations
//! x-api-key                -> api_key        hashes
//! TLS client certificate   -> certificate    names
//!                                            each gives a Principal -> permissions
//! ```
//!
//! Changed files are read again. A client sees only one of three answers: it has to authenticate,
//! its credentials are invalid, or it is not permitted. The reason is logged under the target
//! `balafon::auth`, without the credentials.

mod api_key;
mod authenticator;
mod builder;
mod cache;
mod certificate;
mod claims;
mod contents;
mod crypto;
mod failures;
mod file;
mod jwk;
mod jws;
mod jwt;
mod keys;
mod permissions;
mod remote;
mod state;
mod table;
mod token;

use std::path::Path;
use std::sync::Arc;

pub use self::authenticator::{Authenticator, Refusal};
pub use self::builder::{AuthBuilder, AuthError};
pub use self::keys::KeyFile;
pub use self::permissions::Permissions;
pub use self::remote::{InvalidJwksUrl, JwksUrl};
use self::state::{State, Unauthenticated};
pub use self::token::DevelopmentToken;
use super::ClientAddr;
pub use super::{Principal, PrincipalKind};
use crate::{Call, Interceptor, Next, Outcome, Status, UNKNOWN_METHOD};

/// Authenticates calls, and checks that their principal may call the method.
///
/// - Calls to open methods pass, whatever credentials they have.
/// - Missing and invalid credentials: UNAUTHENTICATED. The [`Authenticator`]s of the application
///   come first, then `authorization`, then `x-api-key`, then the certificate. If credentials of one
///   kind are invalid, the next kind is not tried.
/// - Too many invalid ones from one address: RESOURCE_EXHAUSTED, with the time to wait. From then on
///   new credentials from this address are not verified. Cached credentials and API keys still pass.
/// - Not permitted: PERMISSION_DENIED. The principal is logged under the target `balafon::audit`.
/// - Methods that do not exist are UNIMPLEMENTED, but only for authenticated clients. Others do not
///   learn which methods exist.
/// - For the rest of the call the [`Principal`] is in its extensions, and its name is in the
///   [handle](crate::CallHandle) of the call, for logs.
///
/// Credentials are checked once, when a call begins: a stream may outlive its token.
///
/// ```no_run
/// use balafon::Router;
/// use balafon::interceptors::auth::{Auth, KeyFile, Permissions};
///
/// # fn router() -> Result<Router, Box<dyn std::error::Error>> {
/// let auth = Auth::builder()
///     .keys(KeyFile::jwks("/etc/users/jwks.json"))
///     .issuer("https://accounts.example.com")
///     .audience("users")
///     .permissions(Permissions::new().open("grpc.health.v1.Health/*")?.role("admin", ["*"])?)
///     .build()?;
/// # Ok(
/// Router::new().intercept(auth)
/// # )
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Auth {
    state: Arc<State>,
}

impl Auth {
    /// Starts with no way to authenticate and no permissions.
    pub fn builder() -> AuthBuilder {
        AuthBuilder::new()
    }

    /// Reads the files now; otherwise they are read every second. Their contents take effect at once,
    /// so they have to be complete. Blocks the thread.
    pub fn reload(&self) {
        // New contents take effect when two reads in a row have found them.
        self.state.refresh();
        self.state.refresh();
    }

    /// Each file and URL, with a summary of the contents that are in use: how many entries, the names
    /// of the first of them, and the entries that were skipped. It is for operators and has no
    /// secrets. A URL that has not been fetched yet is left out.
    pub fn files(&self) -> impl Iterator<Item = (&Path, String)> {
        self.state.files().into_iter().map(|(path, holds)| (path, holds.to_string()))
    }

    /// Each URL whose last fetch failed, with the reason.
    pub fn unfetched(&self) -> impl Iterator<Item = (&Path, String)> {
        let remotes = self.state.tokens.iter().flat_map(|tokens| &tokens.remotes);
        remotes.filter_map(|remote| Some((remote.name(), remote.problem()?)))
    }
}

impl Interceptor for Auth {
    async fn intercept(&self, mut call: Call, next: Next<'_>) -> Outcome {
        // The router found this description, so permissions apply to the method that will run.
        let (method, permissions) = (call.method(), &self.state.permissions);
        if permissions.is_open(method) {
            return next.run(call).await;
        }
        let principal = match self.state.authenticate(&call).await {
            Ok(principal) => principal,
            Err(failure) => return refuse(&call, failure).into(),
        };
        call.attribute_to(principal.name());
        if !permissions.allow(&principal, method) {
            return if method == &UNKNOWN_METHOD {
                Status::unimplemented("unknown method").into()
            } else {
                deny(&call, &principal).into()
            };
        }
        call.extensions_mut().insert(principal);
        next.run(call).await
    }
}

fn refuse(call: &Call, failure: Unauthenticated) -> Status {
    let (why, answer) = match failure {
        Unauthenticated::Refused(Refusal::Missing) => {
            ("no credentials".to_owned(), Status::unauthenticated("authentication required"))
        }
        Unauthenticated::Refused(Refusal::Invalid(why)) => {
            (why, Status::unauthenticated("invalid credentials"))
        }
        Unauthenticated::UnknownKey(error) => {
            (error.to_string(), Status::unauthenticated("invalid credentials"))
        }
        Unauthenticated::Refused(Refusal::Unavailable(why)) => {
            (why, Status::unavailable("credentials cannot be verified now"))
        }
        Unauthenticated::NoKeysYet => (
            "no keys of the issuer could be fetched yet".to_owned(),
            Status::unavailable("tokens cannot be verified yet"),
        ),
        Unauthenticated::TooMany(answer) => {
            ("too many calls with invalid credentials from this address".to_owned(), answer)
        }
    };
    tracing::info!(
        target: "balafon::auth",
        why,
        method = call.method().path,
        peer = %call.peer(),
        client = ClientAddr::of(call).map(tracing::field::display),
        correlation_id = correlation_id(call),
        "unauthenticated"
    );
    answer
}

fn deny(call: &Call, principal: &Principal) -> Status {
    tracing::warn!(
        target: "balafon::audit",
        principal = principal.name(),
        method = call.method().path,
        status = "PERMISSION_DENIED",
        peer = %call.peer(),
        client = ClientAddr::of(call).map(tracing::field::display),
        correlation_id = correlation_id(call),
        "denied"
    );
    Status::permission_denied("permission denied")
}

#[cfg(feature = "access-log")]
fn correlation_id(call: &Call) -> Option<&str> {
    call.extensions().get::<super::CorrelationId>().map(|id| &*id.0)
}

#[cfg(not(feature = "access-log"))]
fn correlation_id(_: &Call) -> Option<&str> {
    None
}

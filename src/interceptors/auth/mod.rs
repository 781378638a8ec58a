//! Who calls, and what they may.
//!
//! ```text
//! authorization: Bearer …  -> jwt          keys (PEM, secret, JWKS of a file or a URL), claims, revocations ─┐
//! x-api-key                -> api_key      hashes                                         ├─> Principal -> permissions
//! TLS client certificate   -> certificate  names                                          ┘
//! ```
//!
//! Files are read again when they have changed. A client learns no more than that it has to
//! authenticate, that its credentials are invalid, or that it may not; why is in the log, under the
//! target `balafon::auth`, without the credentials.

mod api_key;
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
mod principal;
mod remote;
mod state;
mod table;
mod token;

use std::path::Path;
use std::sync::Arc;

pub use self::builder::{AuthBuilder, AuthError};
pub use self::keys::KeyFile;
pub use self::permissions::Permissions;
pub use self::principal::{Principal, PrincipalKind};
pub use self::remote::{InvalidJwksUrl, JwksUrl};
use self::state::{Refusal, State};
pub use self::token::DevelopmentToken;
use super::ClientAddr;
use crate::{Call, Interceptor, Next, Outcome, Status, UNKNOWN_METHOD};

/// Lets calls pass whose client has proved who it is, and may call the method.
///
/// - Nobody looks at the credentials of calls to methods that are open.
/// - Missing and bad credentials: UNAUTHENTICATED. Credentials are taken from `authorization`, else
///   from `x-api-key`, else from the certificate; bad ones are never passed over for the next kind.
/// - Too many bad ones from one address: RESOURCE_EXHAUSTED, with the time to wait. They are no longer
///   verified then; who has been verified before, or has an API key, calls as always.
/// - Not allowed: PERMISSION_DENIED. Who it was stands in the log, target `balafon::audit`.
/// - Methods that do not exist are UNIMPLEMENTED, for those who have proved who they are: others
///   learn nothing of what there is.
/// - For the rest of the call the [`Principal`] is in its extensions, and its name is for logs to
///   [read](crate::Call::attribution).
///
/// Credentials are looked at once, when a call begins: a stream may outlive its token.
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
    /// Nobody can prove anything and nobody may call anything, until it is set.
    pub fn builder() -> AuthBuilder {
        AuthBuilder::new()
    }

    /// Reads the files now, as it does by itself every second; what they hold counts at once, so they have to
    /// be complete. Blocks the thread.
    pub fn reload(&self) {
        // Contents count when two looks have found them.
        self.state.refresh();
        self.state.refresh();
    }

    /// Each file and URL, and what it was understood to hold at the last time that it could be used:
    /// how many entries, the names of the first of them, and what was passed over. For operators:
    /// there are no secrets in it. A URL that has not given anything yet is left out.
    pub fn files(&self) -> impl Iterator<Item = (&Path, String)> {
        self.state.files().into_iter().map(|(path, holds)| (path, holds.to_string()))
    }
}

impl Auth {
    /// Each URL whose keys could not be fetched at the last try, and why.
    pub fn unfetched(&self) -> impl Iterator<Item = (&Path, String)> {
        let remotes = self.state.tokens.iter().flat_map(|tokens| &tokens.remotes);
        remotes.filter_map(|remote| Some((remote.name(), remote.problem()?)))
    }
}

impl Interceptor for Auth {
    async fn intercept(&self, mut call: Call, next: Next<'_>) -> Outcome {
        // The router has made the description: it and permissions speak of the same method.
        let (method, permissions) = (call.method(), &self.state.permissions);
        if permissions.is_open(method) {
            return next.run(call).await;
        }
        let principal = match self.state.authenticate(&call).await {
            Ok(principal) => principal,
            Err(refusal) => return refuse(&call, refusal).into(),
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

fn refuse(call: &Call, refusal: Refusal) -> Status {
    let (why, answer) = match refusal {
        Refusal::Missing => {
            ("no credentials".to_owned(), Status::unauthenticated("authentication required"))
        }
        Refusal::Invalid(why) | Refusal::UnknownKey(why) => {
            (why, Status::unauthenticated("invalid credentials"))
        }
        Refusal::Unready => (
            "no keys of the issuer could be fetched yet".to_owned(),
            Status::unavailable("tokens cannot be verified yet"),
        ),
        Refusal::TooMany(answer) => ("too many invalid ones from this address".to_owned(), answer),
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

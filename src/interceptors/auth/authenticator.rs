//! Authentication by code of the application.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Principal;
use crate::Call;

/// Authenticates calls in a way of the application's own: a session cookie, a signature of an API
/// gateway, a token that an authorization server introspects.
///
/// Register it with [`AuthBuilder::authenticator`](super::AuthBuilder::authenticator).
///
/// ```
/// use balafon::interceptors::auth::{
///     Auth, Authenticator, Permissions, Principal, PrincipalKind, Refusal,
/// };
/// use balafon::{AsciiKey, Call};
///
/// static SESSION: AsciiKey = AsciiKey::from_static("x-session");
///
/// struct Sessions;
///
/// impl Authenticator for Sessions {
///     async fn authenticate(&self, call: &Call) -> Result<Principal, Refusal> {
///         match call.metadata().get(&SESSION) {
///             None => Err(Refusal::Missing),
///             Some("42") => Ok(Principal::new("alice", PrincipalKind::Other)),
///             Some(_) => Err(Refusal::Invalid("unknown session".to_owned())),
///         }
///     }
/// }
///
/// let auth = Auth::builder()
///     .authenticator(Sessions)
///     .permissions(Permissions::new().authenticated(["*"])?)
///     .build()?;
/// # drop(auth);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Authenticator: Send + Sync + 'static {
    /// Authenticates a call by its metadata, its peer or its extensions. It runs for each call to a
    /// method that is not open, and is dropped when the call ends early.
    fn authenticate(&self, call: &Call) -> impl Future<Output = Result<Principal, Refusal>> + Send;
}

/// The reason why an [`Authenticator`] did not authenticate a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The call has no credentials of this kind. The next way to authenticate gets the call; if none
    /// is left, the call ends with UNAUTHENTICATED.
    Missing,
    /// The credentials are invalid, for this reason. The call ends with UNAUTHENTICATED and counts
    /// as a [failure](super::AuthBuilder::failures_per_minute). The reason is logged, and the client
    /// does not see it. It must not contain the credentials.
    Invalid(String),
    /// The credentials cannot be verified now, for this reason. The call ends with UNAVAILABLE. The
    /// reason is logged, and the client does not see it.
    Unavailable(String),
}

impl<A: Authenticator> Authenticator for Arc<A> {
    fn authenticate(&self, call: &Call) -> impl Future<Output = Result<Principal, Refusal>> + Send {
        A::authenticate(self, call)
    }
}

/// [`Authenticator`] in a form that a list can hold.
trait DynAuthenticator: Send + Sync {
    fn authenticate<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Principal, Refusal>>;
}

impl<A: Authenticator> DynAuthenticator for A {
    fn authenticate<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Principal, Refusal>> {
        Box::pin(Authenticator::authenticate(self, call))
    }
}

/// The authenticators of the application, in the order of their registration.
#[derive(Clone, Default)]
pub(super) struct Authenticators(Vec<Arc<dyn DynAuthenticator>>);

impl Authenticators {
    pub(super) fn push(&mut self, authenticator: impl Authenticator) {
        self.0.push(Arc::new(authenticator));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first answer that is not [`Refusal::Missing`].
    pub(super) async fn authenticate(&self, call: &Call) -> Result<Principal, Refusal> {
        for authenticator in &self.0 {
            let answer = authenticator.authenticate(call).await;
            if answer != Err(Refusal::Missing) {
                return answer;
            }
        }
        Err(Refusal::Missing)
    }
}

impl fmt::Debug for Authenticators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authenticators").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::interceptors::auth::{Auth, Permissions, PrincipalKind};
    use crate::testing::{self, intercept};
    use crate::{AsciiKey, AsciiValue, Code, Outcome, Rpc};

    static GET: Rpc<(), ()> = Rpc::unary("/a.Users/Get");
    static SESSION: AsciiKey = AsciiKey::from_static("x-session");
    static TICKET: AsciiKey = AsciiKey::from_static("x-ticket");

    /// Accepts calls whose metadata has the value `good` under this key.
    struct Good(&'static AsciiKey);

    impl Authenticator for Good {
        async fn authenticate(&self, call: &Call) -> Result<Principal, Refusal> {
            tokio::task::yield_now().await;
            match call.metadata().get(self.0) {
                None => Err(Refusal::Missing),
                Some("good") => {
                    let principal = Principal::new("alice", PrincipalKind::Other);
                    Ok(principal.with_roles(["reader"]))
                }
                Some("late") => Err(Refusal::Unavailable("the sessions are away".to_owned())),
                Some(_) => Err(Refusal::Invalid("another value".to_owned())),
            }
        }
    }

    /// The status of a call with these values.
    async fn status(auth: &Auth, values: &[(&'static AsciiKey, &str)]) -> Code {
        let mut call = testing::call(&GET);
        for (key, value) in values {
            call.metadata_mut().insert(key, AsciiValue::try_from(*value).unwrap());
        }
        let handler = |call: Call| async move {
            let principal: &Principal = call.extensions().get().unwrap();
            assert_eq!((principal.name(), principal.kind()), ("alice", PrincipalKind::Other));
            Outcome::ok()
        };
        intercept(auth, call, handler).await.status.code()
    }

    fn auth() -> Auth {
        let permissions = Permissions::new().role("reader", ["*"]).unwrap();
        let auth = Auth::builder()
            .authenticator(Arc::new(Good(&SESSION)))
            .authenticator(Good(&TICKET))
            .failures_per_minute(Some(2))
            .permissions(permissions);
        auth.build().unwrap()
    }

    #[tokio::test]
    async fn authenticators_are_asked_in_order() {
        let auth = auth();
        assert_eq!(status(&auth, &[(&SESSION, "good")]).await, Code::Ok);
        assert_eq!(status(&auth, &[(&TICKET, "good")]).await, Code::Ok);
        assert_eq!(status(&auth, &[]).await, Code::Unauthenticated);
        let both = [(&SESSION, "bad"), (&TICKET, "good")];
        assert_eq!(status(&auth, &both).await, Code::Unauthenticated, "bad ones are final");
        assert_eq!(status(&auth, &[(&SESSION, "late")]).await, Code::Unavailable);
    }

    #[tokio::test]
    async fn authenticator_refusals_count_as_failures() {
        let auth = auth();
        for expected in [Code::Unauthenticated, Code::Unauthenticated, Code::ResourceExhausted] {
            assert_eq!(status(&auth, &[(&SESSION, "bad")]).await, expected);
        }
        assert_eq!(status(&auth, &[(&SESSION, "good")]).await, Code::Ok);
    }
}

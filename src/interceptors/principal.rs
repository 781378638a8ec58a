use std::fmt;
use std::sync::Arc;

/// The authenticated caller. Interceptors further in and handlers find it in the extensions of the
/// call: `call.extensions().get::<Principal>()`. Clones are cheap.
///
/// An authenticator of your own makes one, and so does a test of a handler:
///
/// ```
/// use balafon::interceptors::{Principal, PrincipalKind};
///
/// let alice = Principal::new("alice", PrincipalKind::Other)
///     .with_roles(["admin"])
///     .with_scopes(["users.read"]);
/// assert!(alice.has_role("admin") && alice.has_scope("users.read"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Principal(Arc<Parts>);

#[derive(Clone, PartialEq, Eq)]
struct Parts {
    name: Box<str>,
    kind: PrincipalKind,
    roles: Vec<Box<str>>,
    scopes: Vec<Box<str>>,
}

/// The kind of credentials that proved a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrincipalKind {
    /// A signed token (JWT).
    Token,
    /// An API key.
    ApiKey,
    /// A client certificate.
    Certificate,
    /// Credentials of another kind, checked by an authenticator of the application.
    Other,
}

impl Principal {
    /// A principal without roles and scopes.
    pub fn new(name: &str, kind: PrincipalKind) -> Self {
        Self::with(name, kind, Vec::new(), Vec::new())
    }

    pub(super) fn with(
        name: &str,
        kind: PrincipalKind,
        roles: Vec<Box<str>>,
        scopes: Vec<Box<str>>,
    ) -> Self {
        Self(Arc::new(Parts { name: name.into(), kind, roles, scopes }))
    }

    /// Replaces its roles.
    #[must_use]
    pub fn with_roles<'a>(mut self, roles: impl IntoIterator<Item = &'a str>) -> Self {
        Arc::make_mut(&mut self.0).roles = roles.into_iter().map(Box::from).collect();
        self
    }

    /// Replaces its scopes.
    #[must_use]
    pub fn with_scopes<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        Arc::make_mut(&mut self.0).scopes = scopes.into_iter().map(Box::from).collect();
        self
    }

    /// The `sub` of the token, the name of the API key, or a name in the certificate.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The kind of credentials that proved it.
    pub fn kind(&self) -> PrincipalKind {
        self.0.kind
    }

    /// Its roles.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.0.roles.iter().map(|role| &**role)
    }

    /// The scopes of its token.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.0.scopes.iter().map(|scope| &**scope)
    }

    /// Whether it has this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles().any(|own| own == role)
    }

    /// Whether its token has this scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().any(|own| own == scope)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("name", &self.0.name)
            .field("kind", &self.0.kind)
            .field("roles", &self.0.roles)
            .field("scopes", &self.0.scopes)
            .finish()
    }
}

use std::fmt;
use std::sync::Arc;

/// Who calls, as far as it was proved. Interceptors further in and handlers find it in the call's
/// extensions: `call.extensions().get::<Principal>()`. Clones are cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    name: Box<str>,
    kind: PrincipalKind,
    roles: Vec<Box<str>>,
    scopes: Vec<Box<str>>,
}

/// By what a principal was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrincipalKind {
    /// A signed token (JWT).
    Token,
    /// An API key.
    ApiKey,
    /// A client certificate.
    Certificate,
}

impl Principal {
    /// A principal without roles and scopes. Tests of handlers make their own.
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

    /// The same with these roles.
    #[must_use]
    pub fn with_roles<'a>(&self, roles: impl IntoIterator<Item = &'a str>) -> Self {
        let roles = roles.into_iter().map(Box::from).collect();
        Self::with(self.name(), self.kind(), roles, self.0.scopes.clone())
    }

    /// The token's `sub`, the name of the API key, or a name of the certificate.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// By what it was proved.
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

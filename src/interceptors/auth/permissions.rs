use crate::Method;
use crate::interceptors::principal::Principal;
use crate::interceptors::{InvalidPattern, MethodPattern};

/// The methods that principals may call. Without a rule that allows it, a call is denied.
///
/// ```
/// use balafon::interceptors::auth::Permissions;
///
/// let permissions = Permissions::new()
///     .open("grpc.health.v1.Health/*")?
///     .role("admin", ["*"])?
///     .role("support", ["ru.tinkoff.kora.example.UserService/GetUser"])?
///     .scope("users.read", ["*/GetUser", "*/GetAllUsers"])?;
/// # Ok::<(), balafon::interceptors::InvalidPattern>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    open: Vec<MethodPattern>,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    grantee: Grantee,
    may_call: Vec<MethodPattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Grantee {
    Role(String),
    Scope(String),
    Authenticated,
}

impl Grantee {
    fn is(&self, principal: &Principal) -> bool {
        match self {
            Self::Role(role) => principal.has_role(role),
            Self::Scope(scope) => principal.has_scope(scope),
            Self::Authenticated => true,
        }
    }
}

impl Permissions {
    /// Allows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows these methods for all clients, without authentication. Credentials are ignored.
    ///
    /// # Errors
    /// If `pattern` is not a [`MethodPattern`].
    pub fn open(mut self, pattern: &str) -> Result<Self, InvalidPattern> {
        self.open.push(pattern.parse()?);
        Ok(self)
    }

    /// Allows these methods for principals with this role.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn role<'a>(
        self,
        role: &str,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidPattern> {
        self.rule(Grantee::Role(role.to_owned()), patterns)
    }

    /// Allows these methods for principals with this scope.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn scope<'a>(
        self,
        scope: &str,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidPattern> {
        self.rule(Grantee::Scope(scope.to_owned()), patterns)
    }

    /// Allows these methods for all authenticated principals.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn authenticated<'a>(
        self,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidPattern> {
        self.rule(Grantee::Authenticated, patterns)
    }

    fn rule<'a>(
        mut self,
        grantee: Grantee,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidPattern> {
        let may_call = patterns.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        self.rules.push(Rule { grantee, may_call });
        Ok(self)
    }

    /// Whether this method needs no authentication.
    pub fn is_open(&self, method: &Method) -> bool {
        self.open.iter().any(|pattern| pattern.matches(method))
    }

    /// Whether this principal may call this method.
    pub fn allow(&self, principal: &Principal, method: &Method) -> bool {
        self.rules.iter().any(|rule| {
            rule.may_call.iter().any(|pattern| pattern.matches(method))
                && rule.grantee.is(principal)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interceptors::principal::PrincipalKind;
    use crate::{Rpc, UNKNOWN_METHOD};

    static GET: Rpc<(), ()> = Rpc::unary("/a.Users/Get");
    static PUT: Rpc<(), ()> = Rpc::unary("/a.Users/Put");
    static OTHER: Rpc<(), ()> = Rpc::unary("/a.Users2/Get");

    #[test]
    fn permissions_deny_by_default() {
        let stranger = Principal::new("stranger", PrincipalKind::Token);
        let reader = stranger.clone().with_roles(["reader"]);
        assert!(!Permissions::new().allow(&reader, &GET));
        let permissions = Permissions::new().role("reader", ["*/Get"]).unwrap();
        assert!(permissions.allow(&reader, &GET) && permissions.allow(&reader, &OTHER));
        assert!(!permissions.allow(&reader, &PUT) && !permissions.allow(&stranger, &GET));
        assert!(!permissions.is_open(&GET) && !permissions.allow(&reader, &UNKNOWN_METHOD));
    }

    #[test]
    fn permissions_tell_scopes_from_roles() {
        let scopes = vec!["reader".into()];
        let by_scope = Principal::with("x", PrincipalKind::Token, Vec::new(), scopes);
        let roles = Permissions::new().role("reader", ["*"]).unwrap();
        let scopes = Permissions::new().scope("reader", ["*"]).unwrap();
        assert!(!roles.allow(&by_scope, &GET) && scopes.allow(&by_scope, &GET));
    }

    #[test]
    fn permissions_open_methods_without_authentication() {
        let permissions = Permissions::new().open("a.Users/Get").unwrap().open("*/Put").unwrap();
        assert!(permissions.is_open(&GET) && permissions.is_open(&PUT));
        assert!(!permissions.is_open(&OTHER));
        let stranger = Principal::new("stranger", PrincipalKind::Token);
        assert!(!permissions.allow(&stranger, &GET), "an open method needs no rule");
    }

    #[test]
    fn permissions_of_authenticated_principals_need_no_role() {
        let permissions = Permissions::new().authenticated(["a.Users/*"]).unwrap();
        let stranger = Principal::new("stranger", PrincipalKind::Token);
        assert!(permissions.allow(&stranger, &GET) && !permissions.allow(&stranger, &OTHER));
    }

    #[test]
    fn permissions_add_up() {
        let permissions = Permissions::new()
            .open("*/Put")
            .and_then(|rules| rules.role("reader", ["a.Users/Get"]))
            .and_then(|rules| rules.scope("other", ["a.Users2/Get"]))
            .and_then(|rules| rules.authenticated(["a.Users/Put"]))
            .unwrap();
        let scopes = vec!["other".into()];
        let both = Principal::with("x", PrincipalKind::Token, vec!["reader".into()], scopes);
        for method in [&GET, &PUT, &OTHER] {
            assert!(permissions.allow(&both, method), "{}", method.path);
        }
        assert!(permissions.is_open(&PUT));
    }
}

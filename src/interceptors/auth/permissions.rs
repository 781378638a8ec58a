use crate::Method;
use crate::interceptors::principal::Principal;
use crate::interceptors::{InvalidPattern, MethodPattern};

/// Who may call what. What no rule allows is denied.
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
    who: Who,
    may_call: Vec<MethodPattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Role(String),
    Scope(String),
    Authenticated,
}

impl Who {
    fn is(&self, principal: &Principal) -> bool {
        match self {
            Self::Role(role) => principal.has_role(role),
            Self::Scope(scope) => principal.has_scope(scope),
            Self::Authenticated => true,
        }
    }
}

impl Permissions {
    /// Nobody may call anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody call these methods, without credentials: no one looks at those that come.
    ///
    /// # Errors
    /// This and the others: if it is no [`MethodPattern`].
    pub fn open(mut self, pattern: &str) -> Result<Self, InvalidPattern> {
        self.open.push(pattern.parse()?);
        Ok(self)
    }

    /// Lets principals with this role call these methods.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn role<'a>(
        self,
        role: &str,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidPattern> {
        self.rule(Who::Role(role.to_owned()), patterns)
    }

    /// Lets principals with a token of this scope call these methods.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn scope<'a>(
        self,
        scope: &str,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidPattern> {
        self.rule(Who::Scope(scope.to_owned()), patterns)
    }

    /// Lets everybody who has proved who they are call these methods.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn authenticated<'a>(
        self,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidPattern> {
        self.rule(Who::Authenticated, patterns)
    }

    fn rule<'a>(
        mut self,
        who: Who,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidPattern> {
        let may_call = patterns.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        self.rules.push(Rule { who, may_call });
        Ok(self)
    }

    /// Whether everybody may call this method.
    pub fn is_open(&self, method: &Method) -> bool {
        self.open.iter().any(|pattern| pattern.matches(method))
    }

    /// Whether this principal may call this method.
    pub fn allow(&self, principal: &Principal, method: &Method) -> bool {
        self.rules.iter().any(|rule| {
            rule.may_call.iter().any(|pattern| pattern.matches(method)) && rule.who.is(principal)
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
    fn what_no_rule_allows_is_denied() {
        let nobody = Principal::new("nobody", PrincipalKind::Token);
        let reader = nobody.clone().with_roles(["reader"]);
        assert!(!Permissions::new().allow(&reader, &GET));
        let permissions = Permissions::new().role("reader", ["*/Get"]).unwrap();
        assert!(permissions.allow(&reader, &GET) && permissions.allow(&reader, &OTHER));
        assert!(!permissions.allow(&reader, &PUT) && !permissions.allow(&nobody, &GET));
        assert!(!permissions.is_open(&GET) && !permissions.allow(&reader, &UNKNOWN_METHOD));
    }

    #[test]
    fn a_scope_is_no_role() {
        let scopes = vec!["reader".into()];
        let by_scope = Principal::with("x", PrincipalKind::Token, Vec::new(), scopes);
        let roles = Permissions::new().role("reader", ["*"]).unwrap();
        let scopes = Permissions::new().scope("reader", ["*"]).unwrap();
        assert!(!roles.allow(&by_scope, &GET) && scopes.allow(&by_scope, &GET));
    }
}

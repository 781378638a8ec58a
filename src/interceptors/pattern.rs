use std::fmt;
use std::str::FromStr;

use crate::Method;

/// A pattern of method names: `package.Service/Method`, `package.Service/*`, `*/Method`, or `*` for
/// all. A star stands for a whole name only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodPattern {
    /// `None` matches any.
    service: Option<Box<str>>,
    method: Option<Box<str>>,
}

impl MethodPattern {
    /// Whether the pattern matches the method. It compares the names in the description of the method,
    /// not the path of the request.
    pub fn matches(&self, method: &Method) -> bool {
        let is = |wanted: &Option<Box<str>>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == name)
        };
        is(&self.method, method.name) && is(&self.service, method.service)
    }
}

impl fmt::Display for MethodPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [service, method] =
            [&self.service, &self.method].map(|it| it.as_deref().unwrap_or("*"));
        write!(f, "{service}/{method}")
    }
}

impl FromStr for MethodPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = || InvalidPattern(text.to_owned());
        let name = |name: &str| match name {
            "*" => Ok(None),
            _ if name.is_empty() || name.contains(['*', '/', ' ']) => Err(invalid()),
            _ => Ok(Some(name.into())),
        };
        if text == "*" {
            return Ok(Self { service: None, method: None });
        }
        let (service, method) = text.split_once('/').ok_or_else(invalid)?;
        Ok(Self { service: name(service)?, method: name(method)? })
    }
}

/// A text that is not a [`MethodPattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPattern(String);

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid method pattern {:?}: wanted package.Service/Method, package.Service/*, \
             */Method or *",
            self.0
        )
    }
}

impl std::error::Error for InvalidPattern {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rpc;

    static GET: Rpc<(), ()> = Rpc::unary("/a.Users/Get");
    static PUT: Rpc<(), ()> = Rpc::unary("/a.Users/Put");
    static OTHER: Rpc<(), ()> = Rpc::unary("/a.Users2/Get");

    fn matched(pattern: &str) -> [bool; 3] {
        let pattern: MethodPattern = pattern.parse().unwrap();
        [&GET, &PUT, &OTHER].map(|method| pattern.matches(method))
    }

    #[test]
    fn pattern_matches_whole_names() {
        assert_eq!(matched("a.Users/Get"), [true, false, false]);
        assert_eq!(matched("a.Users/*"), [true, true, false]);
        assert_eq!(matched("*/Get"), [true, false, true]);
        assert_eq!(matched("*"), [true, true, true]);
        assert_eq!(matched("*/*"), [true, true, true]);
        assert_eq!(matched("a.users/get"), [false, false, false]);
    }

    #[test]
    fn a_pattern_is_shown_as_it_is_read() {
        for text in ["a.Users/Get", "a.Users/*", "*/Get", "*/*"] {
            assert_eq!(text.parse::<MethodPattern>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_no_pattern() {
        for text in [
            "",
            "/",
            "a.Users",
            "a.Users/",
            "/Get",
            "a.*/Get",
            "*/Get*",
            "a/b/c",
            "/a.Users/Get",
            "a /b",
        ] {
            let error = text.parse::<MethodPattern>().unwrap_err().to_string();
            assert!(error.contains("*/Method"), "{error}");
        }
    }
}

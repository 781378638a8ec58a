//! Patterns of methods that match none, and rules that never count: a misspelt limit would not hold.

use super::contradictions::named;
use super::layers::Layers;
use super::limits::Limited;
use super::problem::{ALIKE, Problems};
use super::table::Config;
use crate::{auth::is_health, routes};
use balafon::Method;
use balafon::interceptors::MethodPattern;

/// Finds patterns that match no method of the server.
pub(super) fn find(config: &Config, layers: &Layers, problems: &mut Problems) {
    let limited = config.rate_limit_rules.iter().map(|(pattern, _)| pattern);
    let allowed = config.auth_allow.iter().map(|(_, pattern)| pattern);
    unmatched("rate-limit.rules", limited, layers, problems);
    unmatched("auth.allow", allowed, layers, problems);
}

fn unmatched<'a>(
    key: &str,
    patterns: impl Iterator<Item = &'a MethodPattern>,
    layers: &Layers,
    problems: &mut Problems,
) {
    for (pattern, text) in patterns.zip(layers.texts(key)) {
        let methods = routes::methods();
        if !methods.iter().any(|method| pattern.matches(method)) {
            let advice = advice(&pattern.to_string(), methods);
            let problem = format_args!("has {text:?}: no method matches {pattern}, {advice}");
            problems.add(layers.place(key), problem);
        }
    }
}

/// What would be right in the place of a pattern that matches nothing.
fn advice(pattern: &str, methods: &[&'static Method]) -> String {
    match closest(pattern, methods) {
        Some(meant) => format!("is {meant} meant?"),
        None => {
            let names: Vec<_> = methods.iter().map(|method| &method.path[1..]).collect();
            format!("the methods are {}", names.join(", "))
        }
    }
}

/// The pattern of the same form that is spelled almost like this one. People also leave out the
/// package.
fn closest(pattern: &str, methods: &[&'static Method]) -> Option<String> {
    let of_form = |service: &str, name: &str| match pattern.split_once('/') {
        Some(("*", _)) => format!("*/{name}"),
        Some((_, "*")) => format!("{service}/*"),
        _ => format!("{service}/{name}"),
    };
    let mut best = (ALIKE, None);
    for method in methods {
        let (_, short) = method.service.rsplit_once('.').unwrap_or(("", method.service));
        for service in [method.service, short] {
            let spelled = of_form(service, method.name).to_lowercase();
            let likeness = strsim::jaro(&pattern.to_lowercase(), &spelled);
            if likeness > best.0 {
                best = (likeness, Some(of_form(method.service, method.name)));
            }
        }
    }
    best.1
}

/// Settings that are good by themselves, and do not do what somebody may believe.
pub(super) fn warnings(config: &Config, layers: &Layers) -> Vec<String> {
    let mut warnings = without_effect(config, layers);
    if config.asks_who_calls() && config.auth_allow.is_empty() {
        let allow = named("auth.allow");
        warnings.push(format!(
            "authentication is on, and {allow} is not set: nobody may call any method of users"
        ));
    }
    warnings
}

/// Rules of which every method has an earlier rule.
fn without_effect(config: &Config, layers: &Layers) -> Vec<String> {
    let rules = &config.rate_limit_rules;
    let mut warnings = Vec::new();
    for (index, (pattern, limit)) in rules.iter().enumerate() {
        let is_of_messages = |limit: &Option<Limited>| matches!(limit, Some(Limited::Messages(..)));
        // One of calls and one of messages both count, but none behind `unlimited`.
        let counts_too = |earlier: &Option<Limited>| {
            earlier.is_some() && limit.is_some() && is_of_messages(earlier) != is_of_messages(limit)
        };
        let mut matched = routes::methods().iter().filter(|method| pattern.matches(method));
        let has_earlier = |method: &Method| {
            rules[..index]
                .iter()
                .any(|(earlier, limit)| earlier.matches(method) && !counts_too(limit))
        };
        if matched.all(|method| is_health(method) || has_earlier(method)) {
            let (place, text) =
                (layers.place("rate-limit.rules"), &layers.texts("rate-limit.rules")[index]);
            warnings.push(format!(
                "{place} has {text:?} without effect: each of its methods has an earlier rule, or is \
                 one of health, which is never limited"
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_method_is_told_from_the_one_that_is_meant() {
        let users = "ru.tinkoff.kora.example.UserService";
        for (pattern, meant) in [
            ("*/GetUsr", "*/GetUser"),
            ("*/getuser", "*/GetUser"),
            ("*/CreateUserss", "*/CreateUsers"),
            ("ru.tinkoff.kora.example.UserServices/*", &format!("{users}/*")),
            ("UserService/*", &format!("{users}/*")),
            ("userservice/get_user", &format!("{users}/GetUser")),
            (&format!("{users}/GetUzer"), &format!("{users}/GetUser")),
            ("grpc.health.v1.Health/Chek", "grpc.health.v1.Health/Check"),
        ] {
            assert_eq!(closest(pattern, routes::methods()).as_deref(), Some(meant), "{pattern}");
        }
        assert_eq!(closest("*/Frobnicate", routes::methods()), None);
        assert!(advice("*/Frobnicate", routes::methods()).contains(&format!("{users}/GetUser, ")));
    }
}

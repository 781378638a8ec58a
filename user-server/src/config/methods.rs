//! Finds method patterns that match no method, and rules without effect. A misspelt limit would not apply.

use super::contradictions::named;
use super::layers::Layers;
use super::limits::Rate;
use super::problem::{MIN_SIMILARITY, Problems};
use super::table::Config;
use balafon::Method;
use balafon::interceptors::MethodPattern;
use balafon::services::health::pb::health;

/// Finds patterns that match no method of the server.
pub(super) fn find(
    config: &Config,
    methods: &[&'static Method],
    layers: &Layers,
    problems: &mut Problems,
) {
    let limited = config.rate_limit.rules.iter().map(|(pattern, _)| pattern);
    let allowed = config.auth.allow.iter().map(|(_, pattern)| pattern);
    unmatched("rate-limit.rules", limited, methods, layers, problems);
    unmatched("auth.allow", allowed, methods, layers, problems);
}

fn unmatched<'a>(
    key: &str,
    patterns: impl Iterator<Item = &'a MethodPattern>,
    methods: &[&'static Method],
    layers: &Layers,
    problems: &mut Problems,
) {
    for (pattern, text) in patterns.zip(layers.texts(key)) {
        if !methods.iter().any(|method| pattern.matches(method)) {
            let advice = advice(&pattern.to_string(), methods);
            let problem = format_args!("has {text:?}: no method matches {pattern}; {advice}");
            problems.add(layers.name_at_origin(key), problem);
        }
    }
}

/// A suggestion for a pattern that matches nothing: the pattern that was probably meant, or all methods.
fn advice(pattern: &str, methods: &[&'static Method]) -> String {
    match closest(pattern, methods) {
        Some(meant) => format!("did you mean {meant}?"),
        None => {
            let names: Vec<_> = methods.iter().map(|method| &method.path[1..]).collect();
            format!("the methods are {}", names.join(", "))
        }
    }
}

/// The most similar pattern of the same form. The package may be missing in `pattern`.
fn closest(pattern: &str, methods: &[&'static Method]) -> Option<String> {
    let of_form = |service: &str, name: &str| match pattern.split_once('/') {
        Some(("*", _)) => format!("*/{name}"),
        Some((_, "*")) => format!("{service}/*"),
        _ => format!("{service}/{name}"),
    };
    let mut best = (MIN_SIMILARITY, None);
    for method in methods {
        let (_, short) = method.service.rsplit_once('.').unwrap_or(("", method.service));
        for service in [method.service, short] {
            let spelled = of_form(service, method.name).to_lowercase();
            let similarity = strsim::jaro(&pattern.to_lowercase(), &spelled);
            if similarity > best.0 {
                best = (similarity, Some(of_form(method.service, method.name)));
            }
        }
    }
    best.1
}

/// Valid settings that probably do not have the intended effect.
pub(super) fn warnings(
    config: &Config,
    methods: &[&'static Method],
    layers: &Layers,
) -> Vec<String> {
    let mut warnings = without_effect(config, methods, layers);
    if config.auth.is_on() && config.auth.allow.is_empty() {
        let allow = named("auth.allow");
        warnings.push(format!(
            "authentication is on, but {allow} is not set: every user method is denied to every client"
        ));
    }
    warnings
}

/// Rules whose methods all have an earlier rule.
fn without_effect(config: &Config, methods: &[&'static Method], layers: &Layers) -> Vec<String> {
    let rules = &config.rate_limit.rules;
    let mut warnings = Vec::new();
    for (index, (pattern, limit)) in rules.iter().enumerate() {
        let is_of_messages = |limit: &Option<Rate>| matches!(limit, Some(Rate::Messages(..)));
        // The first rule for calls and the first for messages both apply. `unlimited` is both.
        let applies_too = |earlier: &Option<Rate>| {
            earlier.is_some() && limit.is_some() && is_of_messages(earlier) != is_of_messages(limit)
        };
        let mut matched = methods.iter().filter(|method| pattern.matches(method));
        let has_earlier = |method: &Method| {
            rules[..index]
                .iter()
                .any(|(earlier, limit)| earlier.matches(method) && !applies_too(limit))
        };
        if matched.all(|method| is_health(method) || has_earlier(method)) {
            let name = layers.name_at_origin("rate-limit.rules");
            let text = &layers.texts("rate-limit.rules")[index];
            warnings.push(format!(
                "{name} has {text:?} without effect: each of its methods has an earlier rule, or is a \
                 health check, which is never limited"
            ));
        }
    }
    warnings
}

fn is_health(method: &Method) -> bool {
    method.service == health::NAME
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes;

    #[test]
    fn method_pattern_misspelt_suggests_the_right_one() {
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

//! Finds settings that are valid by themselves but contradict each other.

use super::auth::Jwks;
use super::layers::Layers;
use super::problem::{Problems, similar};
use super::table::{Config, setting};
use super::values::{ClientAuth, PROXY};
use balafon::interceptors::rate_limit::RedisUrl;
use balafon::interceptors::traces::Endpoint;

pub(super) fn find(config: &Config, layers: &Layers, problems: &mut Problems) {
    missing_requirements(config, layers, problems);
    authorities(config, layers, problems);
    authentication(config, layers, problems);
    parts_and_wholes(config, layers, problems);
    words_for_all("compression.requests", &["all", "off"], layers, problems);
    words_for_all("compression.responses", &["mirror", "off"], layers, problems);
    let uses_proxy = config.server.listen.iter().any(|address| address.starts_with(PROXY));
    if uses_proxy && config.server.proxy_sources.is_empty() {
        let sources = named("proxy-sources");
        let problem = format_args!("has proxy: before an address: this needs {sources}");
        problems.add(layers.name_at_origin("listen"), problem);
    }
    for (index, address) in config.server.listen.iter().enumerate() {
        if !address.ends_with(":0") && config.server.listen[..index].contains(address) {
            problems.add(layers.name_at_origin("listen"), format_args!("has {address} twice"));
        }
    }
}

/// Settings that need another setting.
fn missing_requirements(config: &Config, layers: &Layers, problems: &mut Problems) {
    let has_cert = config.tls.cert.is_some();
    let has_endpoint = config.telemetry.otlp_endpoint.is_some();
    let needs: &[(&[&str], bool, &str)] = &[
        (&["tls.cert"], config.tls.key.is_some(), "tls.key"),
        (&["tls.key", "tls.client-ca", "tls.min-version"], has_cert, "tls.cert"),
        (&["connection.max-age-grace"], config.connection.max_age.is_some(), "connection.max-age"),
        (&["auth.certificates"], config.tls.client_ca.is_some(), "tls.client-ca"),
        (&["rate-limit.redis"], !config.rate_limit.rules.is_empty(), "rate-limit.rules"),
        (
            &[
                "telemetry.sample-ratio",
                "telemetry.service-name",
                "telemetry.otlp-header",
                "telemetry.otlp-headers",
                "telemetry.otlp-timeout",
                "telemetry.resource-attribute",
            ],
            has_endpoint,
            "telemetry.otlp-endpoint",
        ),
        (
            &["connection.keepalive-timeout"],
            config.connection.keepalive_time.is_some(),
            "connection.keepalive-time",
        ),
    ];
    for (keys, is_there, other) in needs {
        for key in keys.iter().filter(|key| !is_there && layers.is_set_for_us(key)) {
            let other_is = layers.texts(other).first().map_or("not set", String::as_str);
            let problem = format_args!("needs {}, which is {other_is}", named(other));
            problems.add(layers.name_at_origin(key), problem);
        }
    }
    let wants_certificates =
        matches!(config.tls.client_auth, Some(ClientAuth::Optional | ClientAuth::Required));
    if wants_certificates && config.tls.client_ca.is_none() {
        problems.add(
            layers.name_at_origin("tls.client-auth"),
            format_args!(
                "is {:?}: this needs {}, which is not set",
                layers.texts("tls.client-auth")[0],
                named("tls.client-ca")
            ),
        );
    }
}

/// A TLS connection to another server needs certificate authorities, and the reverse. For a collector the
/// default is the trust store of the system. Errors leave out the URLs, which may have passwords.
fn authorities(config: &Config, layers: &Layers, problems: &mut Problems) {
    let collector = config.telemetry.otlp_endpoint.as_ref().is_some_and(Endpoint::is_tls);
    let redis = config.rate_limit.redis.as_ref().is_some_and(RedisUrl::is_tls);
    for (is_tls, has_default, scheme, url, ca) in [
        (collector, true, "https", "telemetry.otlp-endpoint", "telemetry.otlp-ca"),
        (redis, false, "rediss", "rate-limit.redis", "rate-limit.redis-ca"),
    ] {
        if is_tls && !has_default && !layers.is_set(ca) {
            let ca = named(ca);
            let problem = format_args!("is {scheme}: this needs {ca}, its certificate authorities");
            problems.add(layers.name_at_origin(url), problem);
        }
        if !is_tls && layers.is_set_for_us(ca) {
            let problem = format_args!("is for {scheme}, which {} is not", named(url));
            problems.add(layers.name_at_origin(ca), problem);
        }
    }
}

/// Settings that have no effect without authentication or tokens. They are errors: with auth.allow set, an
/// operator expects that everything else is denied.
fn authentication(config: &Config, layers: &Layers, problems: &mut Problems) {
    let ways =
        ["auth.jwks", "auth.public-key", "auth.secret", "auth.api-keys", "auth.certificates"];
    for (keys, is_satisfied, any_of) in [
        (
            &["auth.allow", "auth.limit", "auth.failures-per-minute", "auth.discovery"][..],
            config.auth.is_on(),
            &ways[..],
        ),
        (
            &["auth.issuer", "auth.audience", "auth.roles-claim", "auth.leeway", "auth.revoked"],
            config.auth.accepts_tokens(),
            &ways[..3],
        ),
    ] {
        for key in keys.iter().filter(|key| layers.is_set(key) && !is_satisfied) {
            let any_of: Vec<_> = any_of.iter().map(|key| named(key)).collect();
            let any_of = any_of.join(", ");
            let problem = format_args!("needs one of {any_of}; none of them is set");
            problems.add(layers.name_at_origin(key), problem);
        }
    }
    let is_url = matches!(config.auth.jwks, Some(Jwks::Url(_)));
    let is_tls = config.auth.jwks.as_ref().is_some_and(Jwks::is_tls);
    for (key, is_used) in [("auth.jwks-refresh", is_url), ("auth.jwks-ca", is_tls)] {
        if layers.is_set(key) && !is_used {
            let jwks = named("auth.jwks");
            problems.add(layers.name_at_origin(key), format_args!("needs {jwks}, a URL of https"));
        }
    }
    for (limited, _) in &config.auth.limit {
        // A misspelt role would leave the right one without its limit.
        if !config.auth.allow.iter().any(|(allowed, _)| allowed == limited) {
            let allow = named("auth.allow");
            let to = config.auth.allow.iter().map(|(to, _)| to.to_string()).collect::<Vec<_>>();
            let meant = similar(&limited.to_string(), to.iter().map(String::as_str));
            let meant = meant.map(|it| format!(": did you mean {it}?")).unwrap_or_default();
            let problem = format_args!("has {limited}, which {allow} does not name{meant}");
            problems.add(layers.name_at_origin("auth.limit"), problem);
        }
    }
    if config.auth.certificates.is_some() && config.tls.client_auth == Some(ClientAuth::Off) {
        let certificates = named("auth.certificates");
        let problem = format_args!("is off: {certificates} needs optional or required");
        problems.add(layers.name_at_origin("tls.client-auth"), problem);
    }
}

/// Words that stand alone in a list, such as `all`.
fn words_for_all(key: &str, words: &[&str], layers: &Layers, problems: &mut Problems) {
    let texts = layers.texts(key);
    if let Some(word) = texts.iter().find(|text| words.contains(&text.as_str()))
        && texts.len() > 1
    {
        problems.add(
            layers.name_at_origin(key),
            format_args!("has {word:?} in a list with other values: it must be the only value"),
        );
    }
}

/// Limits that must not exceed another limit.
fn parts_and_wholes(config: &Config, layers: &Layers, problems: &mut Problems) {
    let parts = [
        (
            ("limits.max-receive-message", config.limits.max_receive_message),
            ("limits.connection-buffer", config.limits.connection_buffer),
        ),
        (
            ("limits.connection-buffer", config.limits.connection_buffer),
            ("limits.server-buffer", config.limits.server_buffer),
        ),
    ];
    for ((part, bytes), (whole, most)) in parts {
        if bytes > most {
            // The error names the setting that was changed.
            let ((blamed, other), more) = match layers.is_set(part) {
                true => ((part, whole), "more"),
                false => ((whole, part), "less"),
            };
            let (is, other_is) = (&layers.texts(blamed)[0], &layers.texts(other)[0]);
            let other = named(other);
            let problem = format_args!("is {is}, {more} than {other}, which is {other_is}");
            problems.add(layers.name_at_origin(blamed), problem);
        }
    }
}

/// The key and the flag of a setting, for errors that recommend it.
pub(super) fn named(key: &str) -> String {
    let flag = setting(key).map_or("", |setting| setting.flag);
    format!("{key} (--{flag})")
}

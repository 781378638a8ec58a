//! What settings may not be together, each good by itself.

use super::auth::Jwks;
use super::layers::Layers;
use super::problem::{Problems, similar};
use super::table::{Config, SETTINGS};
use super::values::{ClientAuth, PROXY};
use balafon::interceptors::rate_limit::RedisUrl;
use balafon::interceptors::traces::Endpoint;

pub(super) fn find(config: &Config, layers: &Layers, problems: &mut Problems) {
    without_what_they_need(config, layers, problems);
    authorities(config, layers, problems);
    authentication(config, layers, problems);
    parts_and_wholes(config, layers, problems);
    words_for_all("compression.requests", &["all", "off"], layers, problems);
    words_for_all("compression.responses", &["mirror", "off"], layers, problems);
    let is_behind = config.listen.iter().any(|address| address.starts_with(PROXY));
    if is_behind && config.proxy_sources.is_empty() {
        let sources = named("proxy-sources");
        let problem = format_args!("has proxy: before an address: this needs {sources}");
        problems.add(layers.place("listen"), problem);
    }
    for (index, address) in config.listen.iter().enumerate() {
        if !address.ends_with(":0") && config.listen[..index].contains(address) {
            problems.add(layers.place("listen"), format_args!("has {address} twice"));
        }
    }
}

/// One is of no use, or not possible, without the other.
fn without_what_they_need(config: &Config, layers: &Layers, problems: &mut Problems) {
    let needs: &[(&str, bool, &str)] = &[
        ("tls.cert", config.tls_key.is_some(), "tls.key"),
        ("tls.key", config.tls_cert.is_some(), "tls.cert"),
        ("tls.client-ca", config.tls_cert.is_some(), "tls.cert"),
        ("tls.min-version", config.tls_cert.is_some(), "tls.cert"),
        ("connection.max-age-grace", config.max_age.is_some(), "connection.max-age"),
        ("auth.certificates", config.tls_client_ca.is_some(), "tls.client-ca"),
        ("rate-limit.redis-timeout", config.rate_limit_redis.is_some(), "rate-limit.redis"),
        ("rate-limit.redis", !config.rate_limit_rules.is_empty(), "rate-limit.rules"),
        ("rate-limit.clients", !config.rate_limit_rules.is_empty(), "rate-limit.rules"),
        ("telemetry.sample-ratio", config.otlp_endpoint.is_some(), "telemetry.otlp-endpoint"),
        ("telemetry.service-name", config.otlp_endpoint.is_some(), "telemetry.otlp-endpoint"),
        ("telemetry.otlp-header", config.otlp_endpoint.is_some(), "telemetry.otlp-endpoint"),
        ("telemetry.otlp-headers", config.otlp_endpoint.is_some(), "telemetry.otlp-endpoint"),
        ("telemetry.otlp-timeout", config.otlp_endpoint.is_some(), "telemetry.otlp-endpoint"),
        ("telemetry.resource-attribute", config.otlp_endpoint.is_some(), "telemetry.otlp-endpoint"),
        (
            "connection.keepalive-timeout",
            config.keepalive_time.is_some(),
            "connection.keepalive-time",
        ),
    ];
    for (key, is_there, other) in needs {
        if layers.is_asked_for(key) && !is_there {
            let other_is = layers.texts(other).first().map_or("not set", String::as_str);
            let problem = format_args!("needs {}, which is {other_is}", named(other));
            problems.add(layers.place(key), problem);
        }
    }
    let asks = matches!(config.tls_client_auth, Some(ClientAuth::Optional | ClientAuth::Required));
    if asks && config.tls_client_ca.is_none() {
        problems.add(
            layers.place("tls.client-auth"),
            format_args!(
                "is {:?}: this needs {}, which is not set",
                layers.texts("tls.client-auth")[0],
                named("tls.client-ca")
            ),
        );
    }
}

/// TLS to others and whom to trust in it need each other; for a collector the authorities of the system
/// will do. The values stay out of it: they may have passwords.
fn authorities(config: &Config, layers: &Layers, problems: &mut Problems) {
    let collector = config.otlp_endpoint.as_ref().is_some_and(Endpoint::is_tls);
    let redis = config.rate_limit_redis.as_ref().is_some_and(RedisUrl::is_tls);
    for (is_tls, scheme, url, ca) in [
        (collector, "https", "telemetry.otlp-endpoint", "telemetry.otlp-ca"),
        (redis, "rediss", "rate-limit.redis", "rate-limit.redis-ca"),
    ] {
        if is_tls && !layers.is_set(ca) && scheme == "rediss" {
            let ca = named(ca);
            let problem = format_args!("is {scheme}: this needs {ca}, the authorities to trust");
            problems.add(layers.place(url), problem);
        }
        if !is_tls && layers.is_asked_for(ca) {
            let problem = format_args!("is for {scheme}, which {} is not", named(url));
            problems.add(layers.place(ca), problem);
        }
    }
}

/// What says more of authentication than there is of it. Whoever has said what is allowed believes
/// that the rest is not.
fn authentication(config: &Config, layers: &Layers, problems: &mut Problems) {
    let ways =
        ["auth.jwks", "auth.public-key", "auth.secret", "auth.api-keys", "auth.certificates"];
    for (keys, is_there, any_of) in [
        (
            &["auth.allow", "auth.limit", "auth.failures-per-minute", "auth.discovery"][..],
            config.asks_who_calls(),
            &ways[..],
        ),
        (
            &["auth.issuer", "auth.audience", "auth.roles-claim", "auth.leeway", "auth.revoked"],
            config.accepts_tokens(),
            &ways[..3],
        ),
    ] {
        for key in keys.iter().filter(|key| layers.is_set(key) && !is_there) {
            let any_of: Vec<_> = any_of.iter().map(|key| named(key)).collect();
            let any_of = any_of.join(", ");
            let problem = format_args!("needs one of {any_of}, of which none is set");
            problems.add(layers.place(key), problem);
        }
    }
    let is_url = matches!(config.auth_jwks, Some(Jwks::Url(_)));
    let is_tls = config.auth_jwks.as_ref().is_some_and(Jwks::is_tls);
    for (key, is_used) in [("auth.jwks-refresh", is_url), ("auth.jwks-ca", is_tls)] {
        if layers.is_set(key) && !is_used {
            let problem = format_args!("needs {}, a URL of https", named("auth.jwks"));
            problems.add(layers.place(key), problem);
        }
    }
    for (limited, _) in &config.auth_limit {
        // Misspelt, it would leave another role without its limit.
        if !config.auth_allow.iter().any(|(allowed, _)| allowed == limited) {
            let allow = named("auth.allow");
            let to = config.auth_allow.iter().map(|(to, _)| to.to_string()).collect::<Vec<_>>();
            let meant = similar(&limited.to_string(), to.iter().map(String::as_str));
            let meant = meant.map(|it| format!(": is {it} meant?")).unwrap_or_default();
            let problem = format_args!("has {limited}, to whom {allow} allows nothing{meant}");
            problems.add(layers.place("auth.limit"), problem);
        }
    }
    if config.auth_certificates.is_some() && config.tls_client_auth == Some(ClientAuth::Off) {
        let certificates = named("auth.certificates");
        let problem = format_args!("is off: {certificates} needs optional or required");
        problems.add(layers.place("tls.client-auth"), problem);
    }
}

/// These words leave nothing for the rest of a list to say.
fn words_for_all(key: &str, words: &[&str], layers: &Layers, problems: &mut Problems) {
    let texts = layers.texts(key);
    if let Some(word) = texts.iter().find(|text| words.contains(&text.as_str()))
        && texts.len() > 1
    {
        problems
            .add(layers.place(key), format_args!("has {word:?} beside others: it stands alone"));
    }
}

/// The first may not be more than the second, of which it is a part.
fn parts_and_wholes(config: &Config, layers: &Layers, problems: &mut Problems) {
    let parts = [
        (
            ("limits.max-receive-message", config.max_receive_message),
            ("limits.connection-buffer", config.connection_buffer),
        ),
        (
            ("limits.connection-buffer", config.connection_buffer),
            ("limits.server-buffer", config.server_buffer),
        ),
    ];
    for ((part, bytes), (whole, most)) in parts {
        if bytes > most {
            // The one that somebody has set is the one to blame.
            let ((blamed, other), more) = match layers.is_set(part) {
                true => ((part, whole), "more"),
                false => ((whole, part), "less"),
            };
            let (is, other_is) = (&layers.texts(blamed)[0], &layers.texts(other)[0]);
            let other = named(other);
            let problem = format_args!("is {is}, {more} than {other}, which is {other_is}");
            problems.add(layers.place(blamed), problem);
        }
    }
}

/// A setting by all its names, for somebody who is to set it.
pub(super) fn named(key: &str) -> String {
    let flag = SETTINGS.iter().find(|setting| setting.key == key).map_or("", |it| it.flag);
    format!("{key} (--{flag})")
}

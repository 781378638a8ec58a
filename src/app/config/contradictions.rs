//! What settings may not be together, each good by itself.

use super::layers::Layers;
use super::problem::Problems;
use super::table::{Config, SETTINGS};
use super::values::ClientAuth;

pub(super) fn find(config: &Config, layers: &Layers, problems: &mut Problems) {
    // One is of no use, or not possible, without the other.
    let needs: &[(&str, bool, &str)] = &[
        ("tls.cert", config.tls_key.is_some(), "tls.key"),
        ("tls.key", config.tls_cert.is_some(), "tls.cert"),
        ("tls.client-ca", config.tls_cert.is_some(), "tls.cert"),
        ("tls.min-version", config.tls_cert.is_some(), "tls.cert"),
        ("connection.max-age-grace", config.max_age.is_some(), "connection.max-age"),
        (
            "connection.keepalive-timeout",
            config.keepalive_time.is_some(),
            "connection.keepalive-time",
        ),
    ];
    for (key, is_there, other) in needs {
        if layers.is_set(key) && !is_there {
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
    // The first may not be more than the second, of which it is a part.
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
    for (index, address) in config.listen.iter().enumerate() {
        if !address.ends_with(":0") && config.listen[..index].contains(address) {
            problems.add(layers.place("listen"), format_args!("has {address} twice"));
        }
    }
}

/// A setting by all its names, for somebody who is to set it.
fn named(key: &str) -> String {
    let flag = SETTINGS.iter().find(|setting| setting.key == key).map_or("", |it| it.flag);
    format!("{key} (--{flag})")
}

//! Kinds of values of this program.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::kind::{Choices, Kind};
use super::mistakes;
use super::setting::without_password;
use crate::store::sqlite::Durability;
use balafon::interceptors::traces::{Endpoint, Header};
use balafon::{Encoding, Http2};

/// HOST:PORT or `unix:PATH`, as [`Listeners::bind`](balafon::Listeners::bind) takes it. The prefix `proxy:`
/// turns the PROXY protocol on.
pub(crate) enum Address {}

/// HOST:PORT.
pub(crate) enum HostPort {}

/// The URL of a collector of traces.
pub(crate) enum Collector {}

/// A header of requests to a collector: `NAME=VALUE`.
pub(crate) enum OtlpHeader {}

/// An attribute of all spans: `NAME=VALUE`.
pub(crate) enum Attribute {}

/// Where users are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Store {
    Memory,
    Sqlite(PathBuf),
    /// The URL, which may have a password.
    Postgres(String),
}

/// The levels that are logged.
pub(crate) enum LogLevel {}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Pretty,
    Json,
}

/// Whether clients need certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    Off,
    Optional,
    Required,
}

/// The clients that may call reflection and `Health/List` while authentication is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discovery {
    /// Clients that are allowed these methods, as for any other method.
    Allowed,
    /// Every client.
    Open,
    /// Every authenticated client.
    Authenticated,
    /// No client.
    Off,
}

/// The accepted encodings of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestCompression {
    All,
    Off,
    Accept(Encoding),
}

/// The encoding of responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResponseCompression {
    Mirror,
    Off,
    Prefer(Encoding),
}

/// The lowest TLS version that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    V1_2,
    V1_3,
}

/// Checks only the form. Names are resolved when the server listens.
impl Kind for Address {
    type Value = String;

    fn wanted() -> String {
        "HOST:PORT, such as 127.0.0.1:9090, [::1]:9090 or localhost:9090, or unix:PATH, or proxy: and \
         one of these"
            .to_owned()
    }

    fn parse(text: &str) -> Option<String> {
        let plain = text.strip_prefix(PROXY).unwrap_or(text);
        match plain.strip_prefix("unix:") {
            // `unix:///run/users.sock` is how gRPC itself writes it.
            Some(path) if path.starts_with("//") && !path.starts_with("///") => None,
            Some(path) => (!path.is_empty()).then(|| text.to_owned()),
            None => HostPort::parse(plain).map(|_| text.to_owned()),
        }
    }

    fn mistake(text: &str) -> Option<String> {
        mistakes::of_address(text.strip_prefix(PROXY).unwrap_or(text))
    }
}

/// The prefix of an address whose connections start with a PROXY header.
pub(crate) const PROXY: &str = "proxy:";

/// Checks only the form.
impl Kind for HostPort {
    type Value = String;

    fn wanted() -> String {
        "HOST:PORT, such as 127.0.0.1:9091, [::1]:9091 or localhost:9091".to_owned()
    }

    fn parse(text: &str) -> Option<String> {
        let (host, port) = text.rsplit_once(':')?;
        let is_right = !host.is_empty() && port.parse::<u16>().is_ok();
        (is_right && mistakes::of_address(text).is_none()).then(|| text.to_owned())
    }

    fn mistake(text: &str) -> Option<String> {
        mistakes::of_address(text)
    }
}

impl Kind for Collector {
    type Value = Endpoint;

    fn wanted() -> String {
        "http://HOST:PORT or https://HOST:PORT, such as http://localhost:4318, without a user or a \
         query; the port is 4318 if there is none"
            .to_owned()
    }

    fn parse(text: &str) -> Option<Endpoint> {
        text.parse().ok()
    }
}

impl Kind for OtlpHeader {
    type Value = Header;

    fn wanted() -> String {
        "NAME=VALUE, such as authorization=Bearer TOKEN, of a header that HTTP itself does not need"
            .to_owned()
    }

    fn parse(text: &str) -> Option<Self::Value> {
        let (name, value) = text.split_once('=')?;
        Header::new(name.trim(), value.trim()).ok()
    }
}

impl Kind for Attribute {
    type Value = (String, String);

    fn wanted() -> String {
        "NAME=VALUE, such as deployment.environment.name=production".to_owned()
    }

    fn parse(text: &str) -> Option<Self::Value> {
        let (name, value) = text.split_once('=')?;
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    }
}

impl Kind for Store {
    type Value = Self;

    fn wanted() -> String {
        "sqlite:PATH, such as sqlite:users.db, postgres://USER@HOST/DATABASE, or memory:".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        if mistakes::of_store(text).is_some() {
            return None;
        }
        match text.split_once(':')? {
            ("memory", "") => Some(Self::Memory),
            ("sqlite", path) if !path.is_empty() => Some(Self::Sqlite(path.into())),
            ("postgres" | "postgresql", rest) if rest.starts_with("//") => {
                Some(Self::Postgres(text.to_owned()))
            }
            _ => None,
        }
    }

    fn mistake(text: &str) -> Option<String> {
        mistakes::of_store(text)
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

impl Kind for LogLevel {
    type Value = String;

    fn wanted() -> String {
        "off, error, warn, info, debug or trace, also by target, such as info,balafon::access=warn"
            .to_owned()
    }

    fn parse(text: &str) -> Option<String> {
        // The filter would read an unknown word as a target, and turn everything else off.
        let is_word = |part: &str| part.starts_with(|first: char| first.is_ascii_alphabetic());
        let is_level = |part: &str| is_word(part) && LevelFilter::from_str(part).is_ok();
        let levels = |part: &str| part.contains('=') || is_level(part);
        (text.split(',').all(levels) && EnvFilter::try_new(text).is_ok()).then(|| text.to_owned())
    }
}

impl Choices for Durability {
    const ALL: &[(&str, Self)] = &[("full", Self::Full), ("relaxed", Self::Relaxed)];
}

impl Choices for Http2 {
    const ALL: &[(&str, Self)] =
        &[(Self::H2.name(), Self::H2), (Self::Native.name(), Self::Native)];
}

impl Choices for LogFormat {
    const ALL: &[(&str, Self)] = &[("pretty", Self::Pretty), ("json", Self::Json)];
}

impl Choices for ClientAuth {
    const ALL: &[(&str, Self)] =
        &[("off", Self::Off), ("optional", Self::Optional), ("required", Self::Required)];
}

impl Choices for Discovery {
    const ALL: &[(&str, Self)] = &[
        ("allowed", Self::Allowed),
        ("open", Self::Open),
        ("authenticated", Self::Authenticated),
        ("off", Self::Off),
    ];
}

impl Choices for RequestCompression {
    const ALL: &[(&str, Self)] = &[
        ("all", Self::All),
        ("off", Self::Off),
        ("gzip", Self::Accept(Encoding::GZIP)),
        ("deflate", Self::Accept(Encoding::DEFLATE)),
        ("zstd", Self::Accept(Encoding::ZSTD)),
    ];
}

impl Choices for ResponseCompression {
    const ALL: &[(&str, Self)] = &[
        ("mirror", Self::Mirror),
        ("off", Self::Off),
        ("gzip", Self::Prefer(Encoding::GZIP)),
        ("deflate", Self::Prefer(Encoding::DEFLATE)),
        ("zstd", Self::Prefer(Encoding::ZSTD)),
    ];
}

impl Choices for TlsVersion {
    const ALL: &[(&str, Self)] = &[("1.2", Self::V1_2), ("1.3", Self::V1_3)];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_host_and_port_or_path() {
        for text in [
            "127.0.0.1:9090",
            "[::1]:0",
            "localhost:9090",
            "unix:/run/users.sock",
            "proxy:[::1]:0",
            "proxy:unix:a",
        ] {
            assert!(Address::parse(text).is_some(), "{text}");
        }
        for text in [
            "9090",
            ":9090",
            "localhost",
            "localhost:http",
            "localhost:70000",
            "",
            "unix:",
            "proxy:",
            "proxy:unix:",
            "proxy::9090",
        ] {
            assert!(Address::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn store_has_a_scheme() {
        assert_eq!(Store::parse("memory:"), Some(Store::Memory));
        for path in ["users.db", "/var/lib/users.db", "a:b"] {
            let store = Store::parse(&format!("sqlite:{path}"));
            assert_eq!(store, Some(Store::Sqlite(path.into())));
            assert_eq!(store.unwrap().to_string(), format!("sqlite:{path}"));
        }
        let store = Store::parse("postgres://me:hunter2@db/users").unwrap();
        assert_eq!(store.to_string(), "postgres://me:(secret)@db/users");
        for text in ["", "memory", "memory:x", "postgres:users", "sqlite:", "users.db", "floppy:a"]
        {
            assert!(Store::parse(text).is_none(), "{text}");
        }
    }
}

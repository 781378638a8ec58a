//! All settings, a file for each group of them.
//!
//! To add a setting:
//! 1. Add an entry to the file of its section. Its position there is its position in the help and
//!    in the sample.
//! 2. Read the field of [`Config`] that the entry creates.
//! 3. Write the sample anew:
//!    `cargo run -p user-server -- config --sample > config.sample.toml`, in the folder
//!    `user-server`.
//!
//! The [`Kind`](super::kind::Kind) of an entry defines which values it accepts. Common kinds are in
//! `kind.rs`. Kinds of this program are in `values.rs`, `auth.rs` and `limits.rs`. A structured value,
//! such as a limit for a pattern of methods, is a text with its own grammar, or a list of such texts.
//! So flags and environment variables can hold it too. `contradictions.rs` checks settings against
//! each other.

mod auth;
mod limits;
mod operation;
mod rate_limit;
mod server;
mod telemetry;
mod tls;

pub(crate) use self::auth::AuthSettings;
pub(crate) use self::limits::{CompressionSettings, ConnectionSettings, LimitSettings};
pub(crate) use self::operation::{AdminSettings, LogSettings, ShutdownSettings};
pub(crate) use self::rate_limit::RateLimitSettings;
pub(crate) use self::server::{ServerSettings, StoreSettings};
pub(crate) use self::telemetry::TelemetrySettings;
pub(crate) use self::tls::TlsSettings;

use super::setting::{Section, Setting};

/// The sections of the file, in order. The settings of the first two are at the top of the file.
pub(super) const SECTIONS: &[Section] = &[
    ServerSettings::SECTION,
    StoreSettings::SECTION,
    TlsSettings::SECTION,
    AuthSettings::SECTION,
    RateLimitSettings::SECTION,
    LimitSettings::SECTION,
    CompressionSettings::SECTION,
    ConnectionSettings::SECTION,
    ShutdownSettings::SECTION,
    AdminSettings::SECTION,
    LogSettings::SECTION,
    TelemetrySettings::SECTION,
];

/// The value of every setting.
pub(crate) struct Config {
    pub(crate) server: ServerSettings,
    pub(crate) store: StoreSettings,
    pub(crate) tls: TlsSettings,
    pub(crate) auth: AuthSettings,
    pub(crate) rate_limit: RateLimitSettings,
    pub(crate) limits: LimitSettings,
    pub(crate) compression: CompressionSettings,
    pub(crate) connection: ConnectionSettings,
    pub(crate) shutdown: ShutdownSettings,
    pub(crate) admin: AdminSettings,
    pub(crate) log: LogSettings,
    pub(crate) telemetry: TelemetrySettings,
}

impl Config {
    /// `texts` returns the texts of a setting, or its default.
    pub(super) fn gather<'a>(texts: impl Fn(&str) -> &'a [String]) -> Self {
        Self {
            server: ServerSettings::gather(&texts),
            store: StoreSettings::gather(&texts),
            tls: TlsSettings::gather(&texts),
            auth: AuthSettings::gather(&texts),
            rate_limit: RateLimitSettings::gather(&texts),
            limits: LimitSettings::gather(&texts),
            compression: CompressionSettings::gather(&texts),
            connection: ConnectionSettings::gather(&texts),
            shutdown: ShutdownSettings::gather(&texts),
            admin: AdminSettings::gather(&texts),
            log: LogSettings::gather(&texts),
            telemetry: TelemetrySettings::gather(&texts),
        }
    }
}

/// Every setting, in the order of the help and of the sample.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

/// The setting with this key.
pub(super) fn setting(key: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_off_where_it_is_accepted() {
        for setting in settings() {
            let accepts = setting.kind.accepts;
            // Kinds that accept any text do not count.
            let can_be_off = accepts("off") && !accepts("no such word");
            let other = ["never", "unlimited", "none", "0"].into_iter().find(|word| accepts(word));
            assert!(!can_be_off || setting.help.contains("off"), "{}", setting.key);
            assert!(!can_be_off || other.is_none(), "{} accepts {other:?}", setting.key);
        }
    }
}

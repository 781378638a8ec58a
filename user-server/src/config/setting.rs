//! What a setting is, and the macro that makes the table of all settings and a struct of their
//! values from one list.

use std::borrow::Cow;

use super::kind::Kind;

/// Variables of the environment begin with this.
pub(super) const PREFIX: &str = "USER_SERVER_";

/// One setting: a key in the file, a flag, a variable of the environment.
pub(super) struct Setting {
    /// With the section that it is in, such as `tls.cert`.
    pub(super) key: &'static str,
    /// Without the dashes before it; the variable is named after it.
    pub(super) flag: &'static str,
    /// What stands for the value in the help.
    pub(super) value: &'static str,
    /// As one would write it; `None` is unset.
    pub(super) default: Option<&'static str>,
    /// For the sample, of what has no default.
    pub(super) example: &'static str,
    pub(super) secret: Secret,
    /// Sentences, the last without its full stop.
    pub(super) help: &'static str,
    pub(super) kind: KindOf,
}

/// What of a value nobody should read, in errors and in what `config` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secret {
    Nothing,
    /// The password of a URL.
    Password,
    /// What stands behind the name of a header, or in its place.
    Header,
}

/// What the table knows of a [`Kind`].
pub(super) struct KindOf {
    pub(super) bare: bool,
    pub(super) list: bool,
    pub(super) wanted: fn() -> String,
    pub(super) accepts: fn(&str) -> bool,
    pub(super) mistake: fn(&str) -> Option<String>,
}

impl KindOf {
    pub(super) const fn of<K: Kind>() -> Self {
        Self {
            bare: K::BARE,
            list: K::LIST,
            wanted: K::wanted,
            accepts: |text| K::parse(text).is_some(),
            mistake: K::mistake,
        }
    }
}

impl Setting {
    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.flag.to_uppercase().replace('-', "_"))
    }

    /// The key's section, empty for the top of the file, and its name therein.
    pub(super) fn section_and_name(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or(("", self.key))
    }

    /// A value as it may be shown.
    pub(super) fn shown<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.secret {
            Secret::Nothing => text.into(),
            Secret::Header => match text.split_once('=') {
                Some((name, _)) => format!("{name}=(secret)").into(),
                None => "(secret)".into(),
            },
            Secret::Password => without_password(text),
        }
    }
}

/// A URL as it may be shown, or what somebody has written in its place.
pub(super) fn without_password(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text
            .rsplit_once('@')
            .map_or(text.into(), |(_, host)| format!("(secret)@{host}").into());
    };
    // Some have it in the query; what stands before that may be a part of it.
    if rest.split_once('?').is_some_and(|(_, query)| query.contains("pass")) {
        return format!("{scheme}://(secret)").into();
    }
    let Some((user, host)) = rest.rsplit_once('@') else { return text.into() };
    let user = user.split_once(':').map_or(user, |(user, _)| user);
    format!("{scheme}://{user}:(secret)@{host}").into()
}

/// Makes of a list of settings
/// - `SETTINGS`, the table, and
/// - `Config`, a struct with a field for each.
///
/// ```text
/// field: Kind = "key" { flag: "...", value: "...", default: Some("..."), help: "..." }
/// ```
macro_rules! settings {
    ($($field:ident: $kind:ty = $key:literal { $($rest:tt)* })*) => {
        /// Every setting, in the order in which they are shown.
        pub(super) static SETTINGS: &[Setting] = &[$(Setting {
            key: $key,
            kind: KindOf::of::<$kind>(),
            $($rest)*
            ..Setting::NEW
        },)*];

        /// The value of every setting.
        pub(crate) struct Config {
            $(pub(crate) $field: <$kind as Kind>::Value,)*
        }

        impl Config {
            /// `texts` gives what a setting is set to, or its default.
            pub(super) fn gather<'a>(texts: impl Fn(&str) -> &'a [String]) -> Self {
                Self {
                    $($field: <$kind>::gather(texts($key)).expect("values are checked as they are read"),)*
                }
            }
        }
    };
}
pub(super) use settings;

impl Setting {
    /// What an entry of the table leaves out.
    pub(super) const NEW: Self = Self {
        key: "",
        flag: "",
        value: "",
        default: None,
        example: "",
        secret: Secret::Nothing,
        help: "",
        kind: KindOf {
            bare: false,
            list: false,
            wanted: String::new,
            accepts: |_| false,
            mistake: |_| None,
        },
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let shown = |secret, text| Setting { secret, ..Setting::NEW }.shown(text).into_owned();
        assert_eq!(shown(Secret::Nothing, "a://b:c@d"), "a://b:c@d");
        assert_eq!(shown(Secret::Header, "authorization=Bearer a=b"), "authorization=(secret)");
        assert_eq!(shown(Secret::Header, "a://b:c@d"), "(secret)");
        assert_eq!(shown(Secret::Password, "a://b:c@d:1/2"), "a://b:(secret)@d:1/2");
        assert_eq!(shown(Secret::Password, "a://:c@e@d"), "a://:(secret)@d");
        assert_eq!(shown(Secret::Password, "a://d:1"), "a://d:1");
        assert_eq!(shown(Secret::Password, "memory:"), "memory:");
        assert_eq!(shown(Secret::Password, "a:b@c"), "(secret)@c");
        assert_eq!(shown(Secret::Password, "a:///b?db=1&pass=c"), "a://(secret)");
        assert_eq!(shown(Secret::Password, "a:///b?db=1"), "a:///b?db=1");
    }
}

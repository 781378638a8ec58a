//! A setting, and the macro that creates a section of the table and a struct of its values from one list.

use std::borrow::Cow;

use super::kind::Kind;

/// The prefix of the environment variables of this program.
pub(super) const PREFIX: &str = "USER_SERVER_";

/// A section of the file.
pub(super) struct Section {
    /// Empty for the top of the file.
    pub(super) name: &'static str,
    /// The heading in the help and in the sample.
    pub(super) title: &'static str,
    pub(super) settings: &'static [Setting],
}

/// One setting: a key in the file, a flag, an environment variable.
pub(super) struct Setting {
    /// Includes the section, as in `tls.cert`.
    pub(super) key: &'static str,
    /// Without the leading dashes. The name of the variable is derived from it.
    pub(super) flag: &'static str,
    /// The placeholder of the value in the help.
    pub(super) value: &'static str,
    /// As a user would write it; `None` means unset.
    pub(super) default: Option<&'static str>,
    /// Shown in the sample if there is no default.
    pub(super) example: &'static str,
    pub(super) secret: Secret,
    /// Sentences, the last without its full stop.
    pub(super) help: &'static str,
    pub(super) kind: KindOf,
}

/// The part of a value that errors and `config` must not print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secret {
    Nothing,
    /// The password of a URL.
    Password,
    /// The value of a header. If there is no header name, the whole text.
    Header,
}

/// The properties of a [`Kind`] that the table needs.
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

    /// The section of the key (empty for the top of the file) and the name in it.
    pub(super) fn section_and_name(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or(("", self.key))
    }

    /// The value without its secret part.
    pub(super) fn redacted<'a>(&self, text: &'a str) -> Cow<'a, str> {
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

/// A URL without its password. Also safe for a text that is not a URL.
pub(super) fn without_password(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text
            .rsplit_once('@')
            .map_or(text.into(), |(_, host)| format!("(secret)@{host}").into());
    };
    // The password may be in the query. The text before the query may be a part of it.
    if rest.split_once('?').is_some_and(|(_, query)| query.contains("pass")) {
        return format!("{scheme}://(secret)").into();
    }
    let Some((user, host)) = rest.rsplit_once('@') else { return text.into() };
    let user = user.split_once(':').map_or(user, |(user, _)| user);
    format!("{scheme}://{user}:(secret)@{host}").into()
}

/// Creates a section: a struct with a field for each setting, and its `SECTION` for the table.
///
/// ```text
/// struct NAME in "section", "Title";
///
/// field: Kind = "section.key" { flag: "...", value: "...", default: Some("..."), help: "..." }
/// ```
macro_rules! settings {
    (
        struct $group:ident in $section:literal, $title:literal;
        $($field:ident: $kind:ty = $key:literal { $($rest:tt)* })*
    ) => {
        #[doc = concat!("The values of the settings under \"", $title, "\".")]
        pub(crate) struct $group {
            $(pub(crate) $field: <$kind as Kind>::Value,)*
        }

        impl $group {
            pub(in crate::config) const SECTION: Section = Section {
                name: $section,
                title: $title,
                settings: &[$(Setting {
                    key: $key,
                    kind: KindOf::of::<$kind>(),
                    $($rest)*
                    ..Setting::NEW
                },)*],
            };

            pub(in crate::config) fn gather<'a>(texts: &impl Fn(&str) -> &'a [String]) -> Self {
                Self {
                    $($field: <$kind>::gather(texts($key)).expect("values are checked as they are read"),)*
                }
            }
        }
    };
}
pub(super) use settings;

impl Setting {
    /// The defaults of an entry.
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
    fn secret_is_redacted() {
        let redacted =
            |secret, text| Setting { secret, ..Setting::NEW }.redacted(text).into_owned();
        assert_eq!(redacted(Secret::Nothing, "a://b:c@d"), "a://b:c@d");
        assert_eq!(redacted(Secret::Header, "authorization=Bearer a=b"), "authorization=(secret)");
        assert_eq!(redacted(Secret::Header, "a://b:c@d"), "(secret)");
        assert_eq!(redacted(Secret::Password, "a://b:c@d:1/2"), "a://b:(secret)@d:1/2");
        assert_eq!(redacted(Secret::Password, "a://:c@e@d"), "a://:(secret)@d");
        assert_eq!(redacted(Secret::Password, "a://d:1"), "a://d:1");
        assert_eq!(redacted(Secret::Password, "memory:"), "memory:");
        assert_eq!(redacted(Secret::Password, "a:b@c"), "(secret)@c");
        assert_eq!(redacted(Secret::Password, "a:///b?db=1&pass=c"), "a://(secret)");
        assert_eq!(redacted(Secret::Password, "a:///b?db=1"), "a:///b?db=1");
    }
}

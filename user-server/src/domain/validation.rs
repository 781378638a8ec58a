//! Validation of the fields of a user.

use std::error::Error;
use std::fmt;

use super::visible::{first_invisible, normalized};

/// The longest accepted name, in Unicode code points.
///
/// Legal names rarely exceed 100. Twice that leaves room for any script. At 4 bytes each, a name stays below
/// 1 KiB, which bounds the memory of a page of users.
pub const MAX_NAME_CHARS: usize = 200;

/// The longest accepted e-mail address, in bytes. RFC 5321 section 4.5.3.1.3 allows a path of 256, which
/// includes two angle brackets.
pub const MAX_EMAIL_BYTES: usize = 254;

/// The maximum number of characters (or bytes) that normalization composes into one, in any text that people
/// write: a letter with several marks. A value that is longer than the limit times this is refused without the
/// work of normalization.
pub(super) const COMPOSED: usize = 8;

/// The values cannot be those of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// At least one, and at most one for each field, in the order `name`, `email`.
    pub violations: Vec<Violation>,
}

/// Why a field was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `"name"` or `"email"`.
    pub field: &'static str,
    /// The problem and what is accepted, never the value itself.
    pub description: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Violation { field, description }) in self.violations.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{field} {description}")?;
        }
        Ok(())
    }
}

impl Error for Invalid {}

/// The problem of a value. It never holds the value itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    EmptyName,
    LongName {
        chars: usize,
    },
    ControlCharacter,
    /// An invisible character, or one that changes the direction of others.
    Invisible(char),
    EmptyEmail,
    LongEmail {
        bytes: usize,
    },
    /// A violation of the syntax of addresses.
    Email(&'static str),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const EMAIL: &str = "an address like user@example.com is accepted";
        match self {
            Self::EmptyName => write!(f, "is empty, 1 to {MAX_NAME_CHARS} characters are accepted"),
            Self::LongName { chars } => {
                write!(f, "has {chars} characters, at most {MAX_NAME_CHARS} are accepted")
            }
            Self::ControlCharacter => {
                f.write_str("contains a control character, only printable text is accepted")
            }
            Self::Invisible(c) => write!(
                f,
                "contains a character that is invisible or changes the direction of others (U+{:04X}), \
                 only printable text is accepted",
                u32::from(*c)
            ),
            Self::EmptyEmail => write!(f, "is empty, {EMAIL}"),
            Self::LongEmail { bytes } => {
                write!(f, "has {bytes} bytes, at most {MAX_EMAIL_BYTES} are accepted")
            }
            Self::Email(problem) => write!(f, "{problem}, {EMAIL}"),
        }
    }
}

impl Error for Problem {}

/// Both values, or the problems of both.
pub(super) fn collect<N, E>(
    name: Result<N, Problem>,
    email: Result<E, Problem>,
) -> Result<(N, E), Invalid> {
    let mut violations = Vec::new();
    if let Err(problem) = &name {
        violations.push(Violation { field: "name", description: problem.to_string() });
    }
    if let Err(problem) = &email {
        violations.push(Violation { field: "email", description: problem.to_string() });
    }
    match (name, email) {
        (Ok(name), Ok(email)) => Ok((name, email)),
        _ => Err(Invalid { violations }),
    }
}

pub(super) fn valid_name(name: &str) -> Result<String, Problem> {
    // Most names are plain, and need only this pass.
    if is_plain_name(name.as_bytes()) {
        return Ok(name.into());
    }
    let name = name.trim();
    if name.is_empty() {
        return Err(Problem::EmptyName);
    }
    let chars = name.chars().count();
    if chars > MAX_NAME_CHARS * COMPOSED {
        return Err(Problem::LongName { chars });
    }
    let name = normalized(name);
    let chars = name.chars().count();
    if chars > MAX_NAME_CHARS {
        return Err(Problem::LongName { chars });
    }
    // Terminals and logs interpret control characters, and PostgreSQL's text cannot hold NUL.
    if name.chars().any(char::is_control) {
        return Err(Problem::ControlCharacter);
    }
    check_visible(&name)?;
    Ok(name.into())
}

pub(super) fn check_visible(text: &str) -> Result<(), Problem> {
    match first_invisible(text) {
        None => Ok(()),
        Some(invisible) => Err(Problem::Invisible(invisible)),
    }
}

/// Whether it is a valid name of ASCII characters, without white space around it.
fn is_plain_name(name: &[u8]) -> bool {
    let (Some(first), Some(last)) = (name.first(), name.last()) else { return false };
    name.len() <= MAX_NAME_CHARS
        && first.is_ascii_graphic()
        && last.is_ascii_graphic()
        && name.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::{NewUser, Timestamp, User, UserChange, UserId, UserStatus};

    fn fields(result: Result<NewUser, Invalid>) -> Vec<&'static str> {
        result.unwrap_err().violations.iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn name_of_every_script_is_accepted() {
        let longest = "😀".repeat(MAX_NAME_CHARS);
        for name in [
            "A",
            "Анна-Мария О'Нил",
            "山田太郎",
            "محمد عبد الله",
            "שרה",
            "नरेन्द्र",
            "👩‍👩‍👧 Family",
            "𠮷野家",
            "Zoë",
            "<b>&\"\\';--",
            &longest,
        ] {
            let user = NewUser::parse(name, "a@b.co").unwrap();
            assert_eq!(user.name(), name);
        }
    }

    #[test]
    fn name_that_is_blank_long_or_invisible_is_refused() {
        let long = "é".repeat(MAX_NAME_CHARS + 1);
        for name in [
            "",
            " ",
            "\t\u{a0}\u{3000}\n",
            "a\0b",
            "a\nb",
            "a\u{1b}[31m",
            "a\u{85}b",
            "Ali\u{200b}ce",
            "a\u{202e}b",
            &long,
        ] {
            assert_eq!(fields(NewUser::parse(name, "a@b.co")), ["name"], "{name:?}");
        }
    }

    #[test]
    fn white_space_around_values_is_removed() {
        let user = NewUser::parse("\u{3000} Alice B \n", "\u{a0}a@b.co\t").unwrap();
        assert_eq!((user.name(), user.email()), ("Alice B", "a@b.co"));
    }

    #[test]
    fn values_are_stored_in_one_normal_form() {
        let [composed, decomposed] =
            [("Zoë", "zoë@exämple.com"), ("Zoe\u{308}", "zoe\u{308}@exa\u{308}mple.com")]
                .map(|(name, email)| NewUser::parse(name, email).unwrap());
        assert_eq!(composed, decomposed);
        let change = UserChange::parse("Zoe\u{308}", "").unwrap();
        assert_eq!(change.name(), Some("Zoë"));
        // The limit applies to the normalized text.
        let long = "e\u{308}".repeat(MAX_NAME_CHARS);
        assert_eq!(NewUser::parse(&long, "a@b.co").unwrap().name().chars().count(), MAX_NAME_CHARS);
        // Normalization makes these longer.
        assert!(NewUser::parse(&"\u{958}".repeat(MAX_NAME_CHARS), "a@b.co").is_err());
    }

    #[test]
    fn violations_are_all_reported_without_values() {
        let invalid = NewUser::parse("secret\0name", "secret.example.com").unwrap_err();
        let text = invalid.to_string();
        assert_eq!(
            text,
            "name contains a control character, only printable text is accepted; \
             email has no @, an address like user@example.com is accepted"
        );
        assert!(!format!("{invalid:?}").contains("secret"));
        assert_eq!(fields(NewUser::parse("", "")), ["name", "email"]);
    }

    #[test]
    fn change_keeps_the_value_of_an_empty_field() {
        let id = UserId::parse("018f3c2a-7b1d-7e4f-8a90-b1c2d3e4f506").unwrap();
        let user = NewUser::parse("Alice", "a@b.co").unwrap().into_user(id, Timestamp::MIN);
        assert_eq!(user.status, UserStatus::Active);

        let kept = UserChange::parse("", "").unwrap();
        assert!(kept.is_empty());
        let apply = |change: UserChange| {
            let mut user = user.clone();
            change.apply(&mut user);
            user
        };
        assert_eq!(apply(kept), user);

        let renamed = UserChange::parse(" Bob ", "").unwrap();
        assert_eq!((renamed.name(), renamed.email()), (Some("Bob"), None));
        assert_eq!(apply(renamed), User { name: "Bob".into(), ..user.clone() });

        let moved = apply(UserChange::parse("", "b@b.co").unwrap());
        assert_eq!(moved, User { email: "b@b.co".into(), ..user });
    }

    #[test]
    fn change_follows_the_rules_of_new_users() {
        let fields = |name, email| -> Vec<_> {
            let invalid = UserChange::parse(name, email).unwrap_err();
            invalid.violations.iter().map(|violation| violation.field).collect()
        };
        assert_eq!(fields(" ", "\t"), ["name", "email"]);
        assert_eq!(fields("Bob", "b"), ["email"]);
        assert_eq!(fields("a\0", ""), ["name"]);
    }
}

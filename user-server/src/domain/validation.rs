//! Which names and e-mail addresses are accepted.

use std::fmt;

use super::visible::{first_unseen, normalized};

/// The longest accepted name, in Unicode code points.
///
/// Legal names rarely pass 100; twice that leaves room for any script, and at 4 bytes each it keeps
/// a name below 1 KiB, which bounds the memory that a page of users takes.
pub const MAX_NAME_CHARS: usize = 200;

/// The longest accepted e-mail address, in bytes: RFC 5321 section 4.5.3.1.3 allows a path of 256,
/// two of which are its angle brackets.
pub const MAX_EMAIL_BYTES: usize = 254;

/// The longest local part (before the `@`), in bytes: RFC 5321 section 4.5.3.1.1.
const MAX_LOCAL_PART_BYTES: usize = 64;

/// Characters, or bytes, of which normalization makes one at the most, in any text that people write:
/// a letter with several marks. Longer values are too long in any case, and cost no more work.
const COMPOSED: usize = 8;

/// The longest label of a domain: RFC 1035 section 2.3.4. The encoded form of an internationalised
/// label has more characters than the label itself, so one with more than this is invalid too.
const MAX_LABEL_CHARS: usize = 63;

/// Values that cannot be a user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// At least one; at most one for each field, in the order `name`, `email`.
    pub violations: Vec<Violation>,
}

/// Why one field was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `"name"` or `"email"`.
    pub field: &'static str,
    /// What is wrong with the value and what is accepted; never the value itself.
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

impl std::error::Error for Invalid {}

pub(super) fn collect<N, E>(
    name: Result<N, String>,
    email: Result<E, String>,
) -> Result<(N, E), Invalid> {
    match (name, email) {
        (Ok(name), Ok(email)) => Ok((name, email)),
        (name, email) => {
            let name = name.err().map(|description| Violation { field: "name", description });
            let email = email.err().map(|description| Violation { field: "email", description });
            Err(Invalid { violations: name.into_iter().chain(email).collect() })
        }
    }
}

pub(super) fn valid_name(name: &str) -> Result<String, String> {
    let name = name.trim();
    if name.is_empty() {
        return Err(format!("is empty, 1 to {MAX_NAME_CHARS} characters are accepted"));
    }
    // Most are plain, and only one pass is made over those.
    if name.len() <= MAX_NAME_CHARS && name.bytes().all(is_printable_ascii) {
        return Ok(name.into());
    }
    let too_long =
        |chars| Err(format!("has {chars} characters, at most {MAX_NAME_CHARS} are accepted"));
    let chars = name.chars().count();
    if chars > MAX_NAME_CHARS * COMPOSED {
        return too_long(chars);
    }
    let name = normalized(name);
    let chars = name.chars().count();
    if chars > MAX_NAME_CHARS {
        return too_long(chars);
    }
    // Terminals and logs act on control characters, and PostgreSQL's text cannot hold NUL.
    if name.chars().any(char::is_control) {
        return Err("contains a control character, only printable text is accepted".into());
    }
    check_visible(&name)?;
    Ok(name.into())
}

fn check_visible(text: &str) -> Result<(), String> {
    match first_unseen(text) {
        None => Ok(()),
        Some(unseen) => Err(format!(
            "contains a character that is not seen or changes the direction of others (U+{:04X}), \
             only printable text is accepted",
            u32::from(unseen)
        )),
    }
}

pub(super) fn valid_email(email: &str) -> Result<String, String> {
    const ACCEPTED: &str = "an address like user@example.com is accepted";
    let email = email.trim();
    if email.is_empty() {
        return Err(format!("is empty, {ACCEPTED}"));
    }
    let too_long =
        |bytes| Err(format!("has {bytes} bytes, at most {MAX_EMAIL_BYTES} are accepted"));
    if email.len() > MAX_EMAIL_BYTES * COMPOSED {
        return too_long(email.len());
    }
    let is_ascii = email.is_ascii();
    let email = if is_ascii { email.into() } else { normalized(email) };
    if email.len() > MAX_EMAIL_BYTES {
        return too_long(email.len());
    }
    // A quoted local part may contain `@`, a domain cannot: the last one separates.
    let at = email.bytes().rposition(|byte| byte == b'@');
    let at = at.ok_or_else(|| format!("has no @, {ACCEPTED}"))?;
    let (local, domain) = (&email[..at], &email[at + 1..]);
    check_local_part(local).map_err(|problem| format!("{problem}, {ACCEPTED}"))?;
    check_domain(domain).map_err(|problem| format!("{problem}, {ACCEPTED}"))?;
    if !is_ascii {
        check_visible(&email)?;
    }
    Ok(email.into())
}

fn is_printable_ascii(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// RFC 5321 section 4.1.2 `Local-part`, with the letters of RFC 6531 section 3.3.
fn check_local_part(local: &str) -> Result<(), &'static str> {
    if local.is_empty() {
        return Err("has nothing before the @");
    }
    if local.len() > MAX_LOCAL_PART_BYTES {
        return Err("has more than 64 bytes before the @");
    }
    // Nearly all are plain, and only one pass is made over those.
    if !local.bytes().all(|byte| byte == b'.' || is_ascii_atom(byte)) {
        if local.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("contains white space or a control character");
        }
        let quoted = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        if quoted.is_some_and(is_quoted_content) {
            return Ok(());
        }
        if local.contains('@') {
            return Err("has more than one @");
        }
        if local.bytes().any(|byte| byte.is_ascii() && byte != b'.' && !is_ascii_atom(byte)) {
            return Err("has a character before the @ that needs quotes there");
        }
    }
    let dot_too_many = local.as_bytes().windows(2).any(|pair| pair == b"..");
    if dot_too_many || local.starts_with('.') || local.ends_with('.') {
        return Err("has a dot too many before the @");
    }
    Ok(())
}

/// RFC 5321 section 4.1.2 `QcontentSMTP`: quotes and backslashes only behind a backslash.
fn is_quoted_content(content: &str) -> bool {
    let mut chars = content.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return false,
            '\\' if chars.next().is_none() => return false,
            _ => {}
        }
    }
    true
}

/// RFC 5322 section 3.2.3 `atext`, to which RFC 6531 adds everything outside ASCII.
fn is_ascii_atom(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// RFC 1035 section 2.3.1 labels, with the letters of RFC 5890 (their Unicode form).
fn check_domain(domain: &str) -> Result<(), &'static str> {
    let mut labels = 0;
    for label in domain.split('.') {
        labels += 1;
        if label.is_empty() {
            return Err("has an empty domain or domain label");
        }
        if label.len() > MAX_LABEL_CHARS && label.chars().count() > MAX_LABEL_CHARS {
            return Err("has a domain label of more than 63 characters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("has a domain label that starts or ends with a hyphen");
        }
        if !label.chars().all(is_label_char) {
            return Err("has a character in the domain that is no letter, digit or hyphen");
        }
    }
    // A mailbox below a bare top-level domain or on a local host is a typing error here.
    if labels < 2 { Err("has a domain without a dot") } else { Ok(()) }
}

fn is_label_char(c: char) -> bool {
    // Marks and joiners belong to labels of many scripts, so other scripts are not cut to letters.
    let non_ascii = !c.is_ascii() && !c.is_whitespace() && !c.is_control();
    c.is_ascii_alphanumeric() || c == '-' || non_ascii
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
    fn names_of_every_script_are_accepted() {
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
    fn blank_long_and_control_carrying_names_are_refused() {
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
    fn plausible_addresses_of_every_script_are_accepted() {
        let local = "l".repeat(64);
        let label = "d".repeat(63);
        let longest = format!("{local}@{label}.{label}.{}", "d".repeat(61));
        assert_eq!(longest.len(), MAX_EMAIL_BYTES);
        for email in [
            "a@b.co",
            "alice.o'neil+tag=1@mail.example.com",
            "!#$%&'*+-/=?^_`{|}~@example.org",
            "иван@почта.рф",
            "用户@例子.公司",
            "राम@उदाहरण.भारत",
            "محمد@مثال.مصر",
            "😀@xn--e1afmkfd.xn--p1ai",
            "\"a@b..c\"@example.com",
            "\"quoted\\\"mark\"@example.com",
            "1@2.3d",
            &longest,
        ] {
            let user = NewUser::parse("Alice", email).unwrap();
            assert_eq!(user.email(), email);
        }
    }

    #[test]
    fn implausible_addresses_are_refused() {
        let long_local = format!("{}@example.com", "l".repeat(65));
        let long_label = format!("a@{}.com", "d".repeat(64));
        let long = format!("a@{}.com", ["d".repeat(60).as_str(); 5].join("."));
        for email in [
            "",
            " \t",
            "alice",
            "@",
            "@example.com",
            "alice@",
            "alice@localhost",
            "a@b@example.com",
            "a b@example.com",
            "a\u{3000}b@example.com",
            "a\0@example.com",
            "a\u{85}b@example.com",
            ".a@example.com",
            "a.@example.com",
            "a..b@example.com",
            "a,b@example.com",
            "Alice <alice@example.com>",
            "\"a\"b\"@example.com",
            "\"a\\\"@example.com",
            "\"@example.com",
            "a@.example.com",
            "a@example.com.",
            "a@example..com",
            "a@-example.com",
            "a@example-.com",
            "a@exa_mple.com",
            "a@exa mple.com",
            "a@пример\u{a0}.рф",
            "a@[127.0.0.1]",
            "a@example.com\r\nBcc: b@example.com",
            "ali\u{200b}ce@example.com",
            "alice@exam\u{feff}ple.com",
            "\u{202e}alice@example.com",
            &long_local,
            &long_label,
            &long,
        ] {
            assert_eq!(fields(NewUser::parse("Alice", email)), ["email"], "{email:?}");
        }
    }

    #[test]
    fn white_space_around_values_is_not_stored() {
        let user = NewUser::parse("\u{3000} Alice B \n", "\u{a0}a@b.co\t").unwrap();
        assert_eq!((user.name(), user.email()), ("Alice B", "a@b.co"));
    }

    #[test]
    fn values_are_compared_and_stored_in_one_form() {
        let [composed, decomposed] =
            [("Zoë", "zoë@exämple.com"), ("Zoe\u{308}", "zoe\u{308}@exa\u{308}mple.com")]
                .map(|(name, email)| NewUser::parse(name, email).unwrap());
        assert_eq!(composed, decomposed);
        let change = UserChange::parse("Zoe\u{308}", "").unwrap();
        assert_eq!(change.name(), Some("Zoë"));
        // The length is that of what is stored.
        let long = "e\u{308}".repeat(MAX_NAME_CHARS);
        assert_eq!(NewUser::parse(&long, "a@b.co").unwrap().name().chars().count(), MAX_NAME_CHARS);
        // These become longer.
        assert!(NewUser::parse(&"\u{958}".repeat(MAX_NAME_CHARS), "a@b.co").is_err());
    }

    #[test]
    fn every_violation_is_reported_without_the_value() {
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
    fn an_empty_value_keeps_the_stored_one() {
        let id = UserId::parse("018f3c2a-7b1d-7e4f-8a90-b1c2d3e4f506").unwrap();
        let user = NewUser::parse("Alice", "a@b.co").unwrap().into_user(id, Timestamp::MIN);
        assert_eq!(user.status, UserStatus::Active);

        let kept = UserChange::parse("", "").unwrap();
        assert!(kept.is_empty());
        assert_eq!(kept.apply(&user), user);

        let renamed = UserChange::parse(" Bob ", "").unwrap();
        assert_eq!((renamed.name(), renamed.email()), (Some("Bob"), None));
        assert_eq!(renamed.apply(&user), User { name: "Bob".into(), ..user.clone() });

        let moved = UserChange::parse("", "b@b.co").unwrap().apply(&user);
        assert_eq!(moved, User { email: "b@b.co".into(), ..user });
    }

    #[test]
    fn a_change_is_held_to_the_same_rules() {
        let fields = |name, email| -> Vec<_> {
            let invalid = UserChange::parse(name, email).unwrap_err();
            invalid.violations.iter().map(|violation| violation.field).collect()
        };
        assert_eq!(fields(" ", "\t"), ["name", "email"]);
        assert_eq!(fields("Bob", "b"), ["email"]);
        assert_eq!(fields("a\0", ""), ["name"]);
    }
}

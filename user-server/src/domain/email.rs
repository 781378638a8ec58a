//! E-mail addresses: RFC 5321, with the letters of RFC 6531.

use super::validation::{COMPOSED, MAX_EMAIL_BYTES, Problem, check_visible};
use super::visible::normalized;

/// The longest local part (before the `@`), in bytes: RFC 5321 section 4.5.3.1.1.
const MAX_LOCAL_PART_BYTES: usize = 64;

/// The longest label of a domain: RFC 1035 section 2.3.4. The encoded form of an internationalised label is
/// longer than the label itself, so a label with more characters than this is always invalid.
const MAX_LABEL_CHARS: usize = 63;

pub(super) fn valid_email(email: &str) -> Result<String, Problem> {
    // Most addresses are plain, and need only this pass.
    if is_plain_email(email.as_bytes()) { Ok(email.into()) } else { valid_email_of_any_form(email) }
}

fn valid_email_of_any_form(email: &str) -> Result<String, Problem> {
    let email = email.trim();
    if email.is_empty() {
        return Err(Problem::EmptyEmail);
    }
    if email.len() > MAX_EMAIL_BYTES * COMPOSED {
        return Err(Problem::LongEmail { bytes: email.len() });
    }
    let is_ascii = email.is_ascii();
    let email = if is_ascii { email.into() } else { normalized(email) };
    if email.len() > MAX_EMAIL_BYTES {
        return Err(Problem::LongEmail { bytes: email.len() });
    }
    // A quoted local part may contain `@`, a domain cannot: the last one separates.
    let at = email.bytes().rposition(|byte| byte == b'@');
    let at = at.ok_or(Problem::Email("has no @"))?;
    let (local, domain) = (&email[..at], &email[at + 1..]);
    check_local_part(local).map_err(Problem::Email)?;
    check_domain(domain).map_err(Problem::Email)?;
    if !is_ascii {
        check_visible(&email)?;
    }
    Ok(email.into())
}

/// The bytes of an unquoted local part, apart from dots.
const ATOM: u8 = 1;

/// The letters and digits of a domain.
const LABEL: u8 = 2;

/// The parts of an address that each byte may be in: [`ATOM`], [`LABEL`], both or none.
static PARTS: [u8; 256] = {
    let mut parts = [0; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        if is_ascii_atom(byte) {
            parts[byte as usize] |= ATOM;
        }
        if byte.is_ascii_alphanumeric() {
            parts[byte as usize] |= LABEL;
        }
        byte += 1;
    }
    parts
};

fn is_of(byte: u8, part: u8) -> bool {
    PARTS[usize::from(byte)] & part != 0
}

/// Whether it is a valid address of ASCII characters, without quotes and without white space around it.
fn is_plain_email(email: &[u8]) -> bool {
    let Some(at) = email.iter().position(|byte| *byte == b'@') else { return false };
    let (local, domain) = (&email[..at], &email[at + 1..]);
    email.len() <= MAX_EMAIL_BYTES
        && local.len() <= MAX_LOCAL_PART_BYTES
        && is_plain_local_part(local)
        && is_plain_domain(domain)
}

fn is_plain_local_part(local: &[u8]) -> bool {
    let mut before = b'.';
    for &byte in local {
        if !is_of(byte, ATOM) && (byte != b'.' || before == b'.') {
            return false;
        }
        before = byte;
    }
    before != b'.'
}

/// Whether it has at least two labels of letters, digits and inner hyphens.
fn is_plain_domain(domain: &[u8]) -> bool {
    let (mut labels, mut start, mut before) = (1, 0, b'.');
    for (position, &byte) in domain.iter().enumerate() {
        if !is_of(byte, LABEL) {
            let is_inner_hyphen = byte == b'-' && before != b'.';
            let ends_label = byte == b'.' && !matches!(before, b'.' | b'-');
            if ends_label && position - start <= MAX_LABEL_CHARS {
                labels += 1;
                start = position + 1;
            } else if !is_inner_hyphen {
                return false;
            }
        }
        before = byte;
    }
    labels > 1 && domain.len() - start <= MAX_LABEL_CHARS && !matches!(before, b'.' | b'-')
}

/// RFC 5321 section 4.1.2 `Local-part`, with the letters of RFC 6531 section 3.3.
fn check_local_part(local: &str) -> Result<(), &'static str> {
    if local.is_empty() {
        return Err("has nothing before the @");
    }
    if local.len() > MAX_LOCAL_PART_BYTES {
        return Err("has more than 64 bytes before the @");
    }
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
        return Err("has a misplaced dot before the @");
    }
    Ok(())
}

/// RFC 5321 section 4.1.2 `QcontentSMTP`: quotes and backslashes only after a backslash.
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
const fn is_ascii_atom(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'/' | b'=' | b'?' | b'^'..=b'`' | b'{'..=b'~')
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
            return Err("has a character in the domain that is not a letter, digit or hyphen");
        }
    }
    // A mailbox at a top-level domain or on a local host is a typing error here.
    if labels < 2 { Err("has a domain without a dot") } else { Ok(()) }
}

fn is_label_char(c: char) -> bool {
    // Labels of many scripts contain marks and joiners, so other scripts are not limited to letters.
    let non_ascii = !c.is_ascii() && !c.is_whitespace() && !c.is_control();
    c.is_ascii_alphanumeric() || c == '-' || non_ascii
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::NewUser;

    #[test]
    fn email_of_every_script_is_accepted() {
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
    fn email_that_is_plain_passes_all_checks() {
        let mut plain = 0;
        let mut emails = vec![String::new()];
        for _ in 0..6 {
            let longer =
                |email: &String| ["a", "0", "-", ".", "@", " "].map(|c| format!("{email}{c}"));
            emails = emails.iter().flat_map(longer).collect();
            for email in emails.iter().filter(|email| is_plain_email(email.as_bytes())) {
                assert_eq!(valid_email_of_any_form(email).as_ref(), Ok(email));
                plain += 1;
            }
        }
        assert!(plain > 50, "{plain}");
    }

    #[test]
    fn email_that_is_implausible_is_refused() {
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
            let invalid = NewUser::parse("Alice", email).unwrap_err();
            let fields: Vec<_> = invalid.violations.iter().map(|it| it.field).collect();
            assert_eq!(fields, ["email"], "{email:?}");
        }
    }
}

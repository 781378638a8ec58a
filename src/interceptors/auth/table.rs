//! Files of lines, with words between white space. A word that begins with `#` begins a comment, up to
//! the end of the line. Within a word `#` is a character like others.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::str::{self, Utf8Error};

use super::contents::{Contents, Summary};

/// The number of a line, and its words.
pub(super) type Line<'a> = (usize, Vec<&'a str>);

/// A file of lines that cannot be used.
#[derive(Debug)]
pub(super) enum TableError {
    NotUtf8(Utf8Error),
    /// The line of this number, from 1.
    Line(usize, LineProblem),
}

/// The problem of a line. It never holds the line, which may be a key that was not hashed by mistake.
#[derive(Debug)]
pub(super) enum LineProblem {
    /// Such a name would look like another one.
    Invisible(char),
    NotAnId,
    WholeToken,
    NotAnApiKey,
    RepeatedKey,
    RepeatedName,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, problem) = match self {
            Self::NotUtf8(_) => return f.write_str("not UTF-8"),
            Self::Line(number, problem) => (number, problem),
        };
        write!(f, "line {number}: ")?;
        match problem {
            LineProblem::Invisible(character) => {
                write!(f, "has an invisible character (U+{:04X})", u32::from(*character))
            }
            LineProblem::NotAnId => f.write_str("wanted one id"),
            LineProblem::WholeToken => f.write_str("is a whole token: wanted its id (jti)"),
            LineProblem::NotAnApiKey => f.write_str("wanted SHA-256 in hex, name, roles"),
            LineProblem::RepeatedKey => f.write_str("the same key as in a line before"),
            LineProblem::RepeatedName => f.write_str("the same name as in a line before"),
        }
    }
}

impl Error for TableError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotUtf8(error) => Some(error),
            Self::Line(..) => None,
        }
    }
}

pub(super) fn lines(bytes: &[u8]) -> Result<Vec<Line<'_>>, TableError> {
    let text = str::from_utf8(without_mark(bytes)).map_err(TableError::NotUtf8)?;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
        let words: Vec<_> = words.collect();
        if let Some(character) = words.iter().flat_map(|word| word.chars()).find(is_invisible) {
            return Err(TableError::Line(number, LineProblem::Invisible(character)));
        }
        if !words.is_empty() {
            lines.push((number, words));
        }
    }
    Ok(lines)
}

/// The file without the byte order mark that some editors add.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn is_invisible(character: &char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
        )
}

/// Ids of tokens (`jti`) that are revoked, one a line.
#[derive(Debug)]
pub(super) struct Revoked(HashSet<Box<str>>);

impl Revoked {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TableError> {
        let mut ids = HashSet::new();
        for (number, words) in lines(bytes)? {
            match words[..] {
                [word] if is_token(word) => {
                    return Err(TableError::Line(number, LineProblem::WholeToken));
                }
                [word] => ids.insert(word.into()),
                _ => return Err(TableError::Line(number, LineProblem::NotAnId)),
            };
        }
        Ok(Self(ids))
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.0.contains(id)
    }

    /// Whether a line can revoke this id: it has to be one word.
    pub(super) fn can_hold(id: &str) -> bool {
        Self::parse(id.as_bytes()).is_ok_and(|revoked| revoked.contains(id))
    }
}

impl Contents for Revoked {
    fn summary(&self) -> Summary {
        Summary::new(self.0.len(), "revoked id", self.0.iter())
    }
}

/// Whether this is a JWT: three parts, the first of which is a JSON object in base64.
fn is_token(word: &str) -> bool {
    word.starts_with("eyJ") && word.matches('.').count() == 2
}

/// `admin,support`, or nothing.
pub(super) fn roles(words: &[&str]) -> Vec<Box<str>> {
    let roles = words.iter().flat_map(|word| word.split(','));
    roles.filter(|role| !role.is_empty()).map(Box::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_comments_begin_lines_or_follow_spaces() {
        let text = b"# all of it\n\n one # the first\n\t#\ntwo\tthree#3 #not\r\na#\n";
        let words = [(3, vec!["one"]), (5, vec!["two", "three#3"]), (6, vec!["a#"])];
        assert_eq!(lines(text).unwrap(), words);
        assert!(lines(&[0xff]).is_err());
    }

    #[test]
    fn revoked_ids_exclude_marks_and_line_ends() {
        for text in ["\u{feff}a#1\nb", "a#1\r\nb\r\n", "a#1 \t\n  b\u{a0}\n\n"] {
            let revoked = Revoked::parse(text.as_bytes()).unwrap();
            assert!(revoked.contains("a#1") && revoked.contains("b"), "{text:?}");
            assert_eq!(revoked.0.len(), 2);
        }
    }

    #[test]
    fn revoked_line_without_an_id_is_an_error() {
        for (text, problem) in [
            ("a\nb c", "line 2: wanted one id"),
            ("a\rb", "line 1: wanted one id"),
            ("a\n\u{feff}b", "line 2: has an invisible character (U+FEFF)"),
            ("a\u{200b}", "line 1: has an invisible character (U+200B)"),
            ("a\0", "line 1: has an invisible character (U+0000)"),
            ("eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "line 1: is a whole token: wanted its id (jti)"),
        ] {
            assert_eq!(Revoked::parse(text.as_bytes()).unwrap_err().to_string(), problem);
        }
    }

    #[test]
    fn revoked_lines_cannot_hold_some_ids() {
        for id in ["a", "abc#1", "a.b.c", "https://a/b?c=d#e", "é"] {
            assert!(Revoked::can_hold(id), "{id:?}");
        }
        for id in ["", " ", "a b", "a ", "#a", "\u{feff}a", "a\n", "a\u{200b}"] {
            assert!(!Revoked::can_hold(id), "{id:?}");
        }
    }

    #[test]
    fn table_roles_are_separated_by_commas_or_spaces() {
        assert_eq!(roles(&["a,b", "c,"]), ["a", "b", "c"].map(Box::from));
        assert!(roles(&[]).is_empty());
    }
}

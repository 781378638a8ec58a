//! Files of lines: words between white space, with comments that start with `#`.

use std::collections::HashSet;
use std::str;

/// A line with its number, and what is in it.
pub(super) type Line<'a> = (usize, Vec<&'a str>);

pub(super) fn lines(bytes: &[u8]) -> Result<Vec<Line<'_>>, String> {
    let text = str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let content = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let lines = content.enumerate().map(|(at, line)| (at + 1, line.split_whitespace().collect()));
    Ok(lines.filter(|(_, words): &Line<'_>| !words.is_empty()).collect())
}

/// One word a line.
pub(super) fn set(bytes: &[u8]) -> Result<HashSet<Box<str>>, String> {
    let lines = lines(bytes)?.into_iter().map(|(number, words)| match words[..] {
        [word] => Ok(word.into()),
        _ => Err(format!("line {number}: wanted one id")),
    });
    lines.collect()
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
    fn comments_and_empty_lines_are_passed_over() {
        let text = b"# all of it\n\n one # the first\ntwo\tthree\r\n";
        assert_eq!(lines(text).unwrap(), [(3, vec!["one"]), (4, vec!["two", "three"])]);
        assert!(set(text).unwrap_err().contains("line 4"));
        assert_eq!(set(b"a\nb\n").unwrap().len(), 2);
        assert!(lines(&[0xff]).is_err());
    }

    #[test]
    fn roles_are_separated_by_commas_or_spaces() {
        assert_eq!(roles(&["a,b", "c,"]), ["a", "b", "c"].map(Box::from));
        assert!(roles(&[]).is_empty());
    }
}

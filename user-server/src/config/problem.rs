//! The errors of a configuration, and suggestions for misspelt names.

use std::fmt;

/// The errors of a configuration, one line each.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    pub(crate) fn one(line: String) -> Self {
        Self(vec![line])
    }

    /// `origin` is the source of the setting: a flag, a variable, or a line of the file.
    pub(super) fn add(&mut self, origin: impl fmt::Display, problem: impl fmt::Display) {
        self.0.push(format!("{origin} {problem}"));
    }

    /// The errors so far, as an `Err` if there are any.
    pub(super) fn none_yet(&mut self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(std::mem::take(self)) }
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// The similarity above which a name is suggested for another one. It is a little stricter than clap's for
/// flags, because keys share their sections.
pub(super) const MIN_SIMILARITY: f64 = 0.8;

/// The name that is most similar to `unknown`, if it is similar enough.
pub(super) fn similar<'a>(unknown: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::jaro(unknown, name), name))
        .filter(|(similarity, _)| *similarity > MIN_SIMILARITY)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

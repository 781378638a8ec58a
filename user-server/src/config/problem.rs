use std::fmt;

/// What is wrong with a configuration, a line each.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    pub(crate) fn one(line: String) -> Self {
        Self(vec![line])
    }

    pub(super) fn add(&mut self, place: impl fmt::Display, problem: impl fmt::Display) {
        self.0.push(format!("{place} {problem}"));
    }

    /// What was found so far, as an error if there is anything.
    pub(super) fn none_yet(&mut self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(std::mem::take(self)) }
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// The likeness from which a name may be meant by another. What clap asks of the flags that it
/// suggests, a little stricter: keys share their sections.
pub(super) const ALIKE: f64 = 0.8;

/// A name that somebody may have meant by `unknown`.
pub(super) fn similar<'a>(unknown: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::jaro(unknown, name), name))
        .filter(|(likeness, _)| *likeness > ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

//! Decides when new contents of a file take effect.

use std::fmt;

/// Watches the contents of a file, or of several files that belong together. New contents take effect
/// when two reads in a row have found the same: a file may be read while it is being written.
///
/// ```text
///  in use --read something else--> unsettled --read the same--> replaced: the new contents are in use
///    ^                              |     ^                `--> unusable: reported once
///    `---- read what is in use -----'     `-- read yet something else
/// ```
#[derive(Debug)]
pub struct FileWatch<C> {
    in_use: C,
    /// The last read, if its contents are not in use: other contents, or the text of an error.
    before: Option<Result<C, String>>,
    /// The text of the last reported error.
    reported: Option<String>,
}

/// The result of a read.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum Change<E> {
    /// The same contents stay in use.
    Unchanged,
    /// The new contents are in use.
    Replaced,
    /// The files cannot be read, or their contents cannot be used. It is reported once, not at each read.
    Problem(E),
}

impl<C: PartialEq> FileWatch<C> {
    /// Watches files whose contents are `in_use`.
    pub fn new(in_use: C) -> Self {
        Self { in_use, before: None, reported: None }
    }

    /// Takes the result of a read. `replace` puts new contents into use. Errors of the same text are
    /// the same problem.
    pub fn observe<E: fmt::Display>(
        &mut self,
        read: Result<C, E>,
        replace: impl FnOnce(&C) -> Result<(), E>,
    ) -> Change<E> {
        if read.as_ref().is_ok_and(|contents| *contents == self.in_use) {
            (self.before, self.reported) = (None, None);
            return Change::Unchanged;
        }
        let is_settled = match (&self.before, &read) {
            (Some(Ok(before)), Ok(contents)) => before == contents,
            (Some(Err(before)), Err(error)) => *before == error.to_string(),
            _ => false,
        };
        if !is_settled {
            self.before = Some(read.map_err(|error| error.to_string()));
            return Change::Unchanged;
        }
        let used = read.and_then(|contents| replace(&contents).map(|()| contents));
        let error = match used {
            Ok(contents) => {
                *self = Self::new(contents);
                return Change::Replaced;
            }
            Err(error) => error,
        };
        let text = error.to_string();
        if self.reported.as_ref() == Some(&text) {
            return Change::Unchanged;
        }
        self.reported = Some(text);
        Change::Problem(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Change<String> {
        Change::Problem(text.to_owned())
    }

    #[test]
    fn file_watch_needs_two_equal_reads() {
        let mut file = FileWatch::new("old");
        let mut used = Vec::new();
        let mut observe = |read| {
            file.observe(Ok(read), |contents| {
                used.push(*contents);
                Ok::<_, String>(())
            })
        };
        for unsettled in ["old", "", "ne", "old", "ne", "new"] {
            assert_eq!(observe(unsettled), Change::Unchanged, "{unsettled:?}");
        }
        assert_eq!(observe("new"), Change::Replaced);
        assert_eq!(observe("new"), Change::Unchanged);
        assert_eq!(used, ["new"]);
    }

    #[test]
    fn file_watch_reports_a_problem_once() {
        let mut file = FileWatch::new("old");
        let mut observe = |read: Result<_, &str>| {
            file.observe(read.map_err(str::to_owned), |_| Err("broken".to_owned()))
        };
        for _ in 0..2 {
            assert_eq!(observe(Ok("new")), Change::Unchanged);
            assert_eq!(observe(Ok("new")), problem("broken"));
            assert_eq!(observe(Ok("new")), Change::Unchanged);
            assert_eq!(observe(Ok("newer")), Change::Unchanged);
            assert_eq!(observe(Ok("newer")), Change::Unchanged);
            assert_eq!(observe(Err("gone")), Change::Unchanged);
            assert_eq!(observe(Err("gone")), problem("gone"));
            assert_eq!(observe(Err("gone")), Change::Unchanged);
            assert_eq!(observe(Ok("old")), Change::Unchanged);
        }
    }

    #[test]
    fn file_watch_uses_contents_that_become_valid() {
        let mut file = FileWatch::new("old");
        assert_eq!(file.observe(Ok("new"), |_| Ok(())), Change::<String>::Unchanged);
        let early = || Err("not valid yet".to_owned());
        assert_eq!(file.observe(Ok("new"), |_| early()), problem("not valid yet"));
        assert_eq!(file.observe(Ok("new"), |_| Ok(())), Change::<String>::Replaced);
    }
}

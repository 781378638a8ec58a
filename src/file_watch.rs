//! Decides when new contents of a file take effect.

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
    /// The result of the last read, if it differs from the contents in use.
    before: Option<Result<C, String>>,
    reported: Option<String>,
}

/// The result of a read.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// The same contents stay in use.
    Unchanged,
    /// The new contents are in use.
    Replaced,
    /// The files cannot be read, or their contents cannot be used. It is reported once, not at each read.
    Problem(String),
}

impl<C: PartialEq> FileWatch<C> {
    /// Watches files whose contents are `in_use`.
    pub fn new(in_use: C) -> Self {
        Self { in_use, before: None, reported: None }
    }

    /// Takes the result of a read. `replace` puts new contents into use.
    pub fn observe(
        &mut self,
        read: Result<C, String>,
        replace: impl FnOnce(&C) -> Result<(), String>,
    ) -> Change {
        if read.as_ref() == Ok(&self.in_use) {
            (self.before, self.reported) = (None, None);
            return Change::Unchanged;
        }
        if self.before.as_ref() != Some(&read) {
            self.before = Some(read);
            return Change::Unchanged;
        }
        let used = read.and_then(|contents| replace(&contents).map(|()| contents));
        match used {
            Ok(contents) => {
                *self = Self::new(contents);
                Change::Replaced
            }
            Err(problem) if self.reported.as_ref() == Some(&problem) => Change::Unchanged,
            Err(problem) => {
                self.reported = Some(problem.clone());
                Change::Problem(problem)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Change {
        Change::Problem(text.to_owned())
    }

    #[test]
    fn file_watch_needs_two_equal_reads() {
        let mut file = FileWatch::new("old");
        let mut used = Vec::new();
        let mut observe = |read| {
            file.observe(Ok(read), |contents| {
                used.push(*contents);
                Ok(())
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
        assert_eq!(file.observe(Ok("new"), |_| Ok(())), Change::Unchanged);
        let early = || Err("not valid yet".to_owned());
        assert_eq!(file.observe(Ok("new"), |_| early()), problem("not valid yet"));
        assert_eq!(file.observe(Ok("new"), |_| Ok(())), Change::Replaced);
    }
}

//! When the contents of files count that change while the program runs.

/// Follows what is read of a file, or of several that belong together. What is new counts once two
/// reads in a row have found the same: whoever writes a file may have emptied it, and be about to
/// write the rest.
///
/// ```text
///  in use --read something else--> unsettled --read the same--> replaced: it is what is in use
///    ^                              |     ^                `--> cannot be used: said once
///    `---- read what is in use -----'     `-- read yet something else
/// ```
#[derive(Debug)]
pub struct FileWatch<C> {
    in_use: C,
    /// What the last read has found, where that is not what is in use.
    before: Option<Result<C, String>>,
    said: Option<String>,
}

/// What a look at files has led to.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// What is in use stays.
    Unchanged,
    /// What was read is in use from now on.
    Replaced,
    /// The files cannot be read, or what they hold cannot be used. Said once, not at every look.
    Problem(String),
}

impl<C: PartialEq> FileWatch<C> {
    /// Watches files whose contents are `in_use`.
    pub fn new(in_use: C) -> Self {
        Self { in_use, before: None, said: None }
    }

    /// Takes what was `read` now, or why that failed. `replace` puts contents that count into use.
    pub fn observe(
        &mut self,
        read: Result<C, String>,
        replace: impl FnOnce(&C) -> Result<(), String>,
    ) -> Change {
        if read.as_ref() == Ok(&self.in_use) {
            (self.before, self.said) = (None, None);
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
            Err(problem) if self.said.as_ref() == Some(&problem) => Change::Unchanged,
            Err(problem) => {
                self.said = Some(problem.clone());
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
    fn contents_count_when_two_reads_in_a_row_have_found_them() {
        let mut file = FileWatch::new("old");
        let mut used = Vec::new();
        let mut look = |read| {
            file.observe(Ok(read), |contents| {
                used.push(*contents);
                Ok(())
            })
        };
        for unsettled in ["old", "", "ne", "old", "ne", "new"] {
            assert_eq!(look(unsettled), Change::Unchanged, "{unsettled:?}");
        }
        assert_eq!(look("new"), Change::Replaced);
        assert_eq!(look("new"), Change::Unchanged);
        assert_eq!(used, ["new"]);
    }

    #[test]
    fn a_problem_is_said_once_and_again_after_it_was_over() {
        let mut file = FileWatch::new("old");
        let mut look = |read: Result<_, &str>| {
            file.observe(read.map_err(str::to_owned), |_| Err("broken".to_owned()))
        };
        for _ in 0..2 {
            assert_eq!(look(Ok("new")), Change::Unchanged);
            assert_eq!(look(Ok("new")), problem("broken"));
            assert_eq!(look(Ok("new")), Change::Unchanged);
            assert_eq!(look(Ok("newer")), Change::Unchanged);
            assert_eq!(look(Ok("newer")), Change::Unchanged);
            assert_eq!(look(Err("gone")), Change::Unchanged);
            assert_eq!(look(Err("gone")), problem("gone"));
            assert_eq!(look(Err("gone")), Change::Unchanged);
            assert_eq!(look(Ok("old")), Change::Unchanged);
        }
    }

    #[test]
    fn contents_that_become_usable_by_themselves_are_used() {
        let mut file = FileWatch::new("old");
        assert_eq!(file.observe(Ok("new"), |_| Ok(())), Change::Unchanged);
        let early = || Err("not valid yet".to_owned());
        assert_eq!(file.observe(Ok("new"), |_| early()), problem("not valid yet"));
        assert_eq!(file.observe(Ok("new"), |_| Ok(())), Change::Replaced);
    }
}

use std::fmt;

/// Names that a summary shows; of more it says how many there are.
const SHOWN_NAMES: usize = 20;

/// Characters of a name that are shown. A longer one is cut.
const SHOWN_CHARACTERS: usize = 64;

/// What a file was understood to hold.
pub(super) trait Contents {
    /// For somebody who wants to know whether it is what was meant: without secrets.
    fn summary(&self) -> Summary;
}

/// How many entries there are, and their names.
#[derive(Debug)]
pub(super) struct Summary {
    count: usize,
    kind: &'static str,
    /// In order.
    names: Vec<String>,
    /// What was passed over, and why.
    remarks: Vec<String>,
}

impl Summary {
    /// `kind` is what one entry is.
    pub(super) fn new(
        count: usize,
        kind: &'static str,
        names: impl Iterator<Item = impl AsRef<str>>,
    ) -> Self {
        let mut names: Vec<_> = names.collect();
        names.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        names.truncate(SHOWN_NAMES);
        let names = names.iter().map(|name| cut(name.as_ref())).collect();
        Self { count, kind, names, remarks: Vec::new() }
    }

    /// The same with what was passed over, and why.
    pub(super) fn with_remarks(self, remarks: &[String]) -> Self {
        Self { remarks: remarks.to_vec(), ..self }
    }

    /// What was passed over, a line of the log each.
    pub(super) fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Without the names.
    pub(super) fn count(&self) -> String {
        let ending = if self.count == 1 { "" } else { "s" };
        format!("{} {}{ending}", self.count, self.kind)
    }
}

/// `3 revoked ids: one, two, three`, and behind it what was passed over.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.count())?;
        if !self.names.is_empty() {
            write!(f, ": {}", self.names.join(", "))?;
        }
        if let more @ 1.. = self.count.saturating_sub(self.names.len()) {
            write!(f, " and {more} more")?;
        }
        if !self.remarks.is_empty() {
            write!(f, "; passed over: {}", self.remarks.join("; "))?;
        }
        Ok(())
    }
}

/// A name with its roles, if it has any.
pub(super) fn with_roles<'a>(name: &str, roles: impl Iterator<Item = &'a str>) -> String {
    let roles: Vec<_> = roles.collect();
    if roles.is_empty() { name.to_owned() } else { format!("{name} ({})", roles.join(", ")) }
}

/// A name as it may be shown.
pub(super) fn cut(name: &str) -> String {
    match name.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", name[..end].escape_debug()),
        None => name.escape_debug().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(names: &[&str]) -> String {
        Summary::new(names.len(), "key", names.iter()).to_string()
    }

    #[test]
    fn a_summary_has_the_count_and_the_first_names() {
        assert_eq!(shown(&[]), "0 keys");
        assert_eq!(shown(&["b"]), "1 key: b");
        assert_eq!(shown(&["b", "a"]), "2 keys: a, b");
        assert!(shown(&["a"; SHOWN_NAMES + 5]).ends_with("a, a and 5 more"));
        let long = "x".repeat(SHOWN_CHARACTERS + 1);
        assert_eq!(shown(&[&long]), format!("1 key: {}…", &long[1..]));
        assert_eq!(with_roles("a", ["b", "c"].into_iter()), "a (b, c)");
    }
}

use std::fmt;

/// The number of names that a summary shows.
const SHOWN_NAMES: usize = 20;

/// The characters of a name that are shown.
const SHOWN_CHARACTERS: usize = 64;

/// The parsed contents of a file.
pub(super) trait Contents {
    /// A summary by which an operator can check the file, without secrets.
    fn summary(&self) -> Summary;
}

/// How many entries there are, and their names.
#[derive(Debug)]
pub(super) struct Summary {
    count: usize,
    kind: &'static str,
    /// In order.
    names: Vec<String>,
    /// The skipped entries, with reasons.
    remarks: Vec<String>,
}

impl Summary {
    /// `kind` names one entry.
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

    /// Adds skipped entries, with reasons.
    pub(super) fn with_remarks(self, remarks: &[String]) -> Self {
        Self { remarks: remarks.to_vec(), ..self }
    }

    /// The skipped entries, each of which is one log line.
    pub(super) fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The number of entries, without names.
    pub(super) fn count(&self) -> String {
        let ending = if self.count == 1 { "" } else { "s" };
        format!("{} {}{ending}", self.count, self.kind)
    }
}

/// `3 revoked ids: one, two, three`, and then the skipped entries.
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

/// A name, escaped and shortened for the log.
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
    fn summary_has_the_count_and_first_names() {
        assert_eq!(shown(&[]), "0 keys");
        assert_eq!(shown(&["b"]), "1 key: b");
        assert_eq!(shown(&["b", "a"]), "2 keys: a, b");
        assert!(shown(&["a"; SHOWN_NAMES + 5]).ends_with("a, a and 5 more"));
        let long = "x".repeat(SHOWN_CHARACTERS + 1);
        assert_eq!(shown(&[&long]), format!("1 key: {}…", &long[1..]));
        assert_eq!(with_roles("a", ["b", "c"].into_iter()), "a (b, c)");
    }
}

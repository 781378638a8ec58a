//! The values of all settings from all sources, and which source wins.

use std::error::Error;
use std::fmt;
use std::path::Path;

use super::file;
use super::problem::{Problems, similar};
use super::setting::{PREFIX, Setting};
use super::table::settings;

/// The value of every setting and its origin. A layer overrides the layers that were added before it.
pub(crate) struct Layers {
    /// In the order of the table.
    entries: Vec<Entry>,
    warnings: Vec<String>,
}

pub(super) struct Entry {
    pub(super) setting: &'static Setting,
    /// Several for a list; none if the setting is unset.
    pub(super) texts: Vec<String>,
    pub(super) origin: Origin,
}

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    /// An environment variable that OpenTelemetry specifies.
    Standard(&'static str),
    File {
        name: String,
        line: usize,
    },
    Variable,
    Flag,
}

/// A setting by the name of its source: `server.toml:7: tls.cert`, `USER_SERVER_TLS_CERT` or
/// `--tls-cert`.
pub(super) struct NameAtOrigin<'a>(pub(super) &'static Setting, pub(super) &'a Origin);

impl fmt::Display for NameAtOrigin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(setting, origin) = self;
        match origin {
            Origin::Default => f.write_str(setting.key),
            Origin::Standard(name) => f.write_str(name),
            Origin::File { name, line } => write!(f, "{name}:{line}: {}", setting.key),
            Origin::Variable => f.write_str(&setting.variable()),
            Origin::Flag => write!(f, "--{}", setting.flag),
        }
    }
}

impl Layers {
    pub(super) fn defaults() -> Self {
        let mut entries = Vec::new();
        for setting in settings() {
            let texts = setting.default.iter().map(ToString::to_string).collect();
            entries.push(Entry { setting, texts, origin: Origin::Default });
        }
        Self { entries, warnings: Vec::new() }
    }

    pub(super) fn add_file(&mut self, path: &Path, problems: &mut Problems) {
        for file::Found { setting, texts, line } in file::read(path, problems) {
            let origin = Origin::File { name: path.display().to_string(), line };
            self.set(setting, texts, origin, problems);
        }
    }

    pub(super) fn add_variables(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
        problems: &mut Problems,
    ) {
        for (name, value) in variables.filter(|(name, _)| name.starts_with(PREFIX)) {
            if name == super::FILE_VARIABLE {
                continue;
            }
            match settings().find(|setting| setting.variable() == name) {
                Some(setting) => {
                    let texts = if setting.kind.list {
                        value.split(',').map(str::to_owned).collect()
                    } else {
                        vec![value]
                    };
                    self.set(setting, texts, Origin::Variable, problems);
                }
                None => self.warn_of_variable(&name),
            }
        }
    }

    /// An unknown variable is not an error: Kubernetes sets variables with this prefix for a service named
    /// `user-server`. It is a warning if its name is similar to that of a setting.
    fn warn_of_variable(&mut self, name: &str) {
        let known: Vec<_> = settings().map(Setting::variable).collect();
        // With the common prefix, all names would be similar.
        let names = known.iter().map(|known| &known[PREFIX.len()..]);
        if let Some(meant) = similar(&name[PREFIX.len()..], names) {
            self.warnings.push(format!("{name} is not a setting: did you mean {PREFIX}{meant}?"));
        }
    }

    pub(super) fn add_flags(
        &mut self,
        flags: impl Fn(&str) -> Vec<String>,
        problems: &mut Problems,
    ) {
        for setting in settings() {
            let texts = flags(setting.flag);
            if !texts.is_empty() {
                self.set(setting, texts, Origin::Flag, problems);
            }
        }
    }

    fn set(
        &mut self,
        setting: &'static Setting,
        mut texts: Vec<String>,
        origin: Origin,
        problems: &mut Problems,
    ) {
        let name = NameAtOrigin(setting, &origin);
        // A variable that an orchestrator fills from a file ends with a newline. It is not part of a path.
        for text in &mut texts {
            *text = text.trim().to_owned();
        }
        let is_not_text = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        if texts.iter().any(|text| text.contains(is_not_text)) {
            problems.add(name, "has a control character, or is not UTF-8: wanted one line of text");
            return;
        }
        if texts.is_empty() {
            problems.add(name, "is an empty list");
            return;
        }
        if let Some(problem) = unaccepted(setting, &texts) {
            problems.add(name, problem);
            return;
        }
        self.replace(setting, texts, origin);
    }

    /// Sets a setting from a variable that may have been meant for another program.
    ///
    /// # Errors
    /// The setting does not accept the values.
    pub(super) fn set_if_accepted(
        &mut self,
        key: &str,
        texts: Vec<String>,
        origin: Origin,
    ) -> Result<(), Unaccepted> {
        let setting = self.entry(key).setting;
        if let Some(problem) = unaccepted(setting, &texts) {
            let name = NameAtOrigin(setting, &origin).to_string();
            return Err(Unaccepted { name, problem });
        }
        self.replace(setting, texts, origin);
        Ok(())
    }

    fn replace(&mut self, setting: &'static Setting, texts: Vec<String>, origin: Origin) {
        let mut entries = self.entries.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.setting.key == setting.key) {
            *entry = Entry { setting, texts, origin };
        }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn entry(&self, key: &str) -> &Entry {
        let found = self.entries.iter().find(|entry| entry.setting.key == key);
        found.expect("the key is one of the table")
    }

    /// The texts of a setting: none if it is unset.
    pub(super) fn texts(&self, key: &str) -> &[String] {
        &self.entry(key).texts
    }

    /// Whether the value differs from the default. A file that `config` has printed names the defaults,
    /// which requests nothing.
    pub(super) fn is_set(&self, key: &str) -> bool {
        let Entry { setting, texts, .. } = self.entry(key);
        !texts.iter().map(String::as_str).eq(setting.default)
    }

    /// Whether it [is set](Self::is_set) by a source of this program, not by a variable that other programs
    /// read too.
    pub(super) fn is_set_for_us(&self, key: &str) -> bool {
        self.is_set(key) && !matches!(self.entry(key).origin, Origin::Standard(_))
    }

    /// A setting by the name of its source, for errors: `--tls-cert`, `USER_SERVER_TLS_CERT` or
    /// `server.toml:7: tls.cert`.
    pub(crate) fn name_at_origin(&self, key: &str) -> impl fmt::Display {
        let Entry { setting, origin, .. } = self.entry(key);
        NameAtOrigin(setting, origin)
    }

    pub(super) fn add_warnings(&mut self, warnings: Vec<String>) {
        self.warnings.extend(warnings);
    }

    /// Suspicious settings that are not errors.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The values of a variable are not accepted by its setting.
#[derive(Debug)]
pub(super) struct Unaccepted {
    name: String,
    problem: String,
}

impl fmt::Display for Unaccepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.problem)
    }
}

impl Error for Unaccepted {}

/// Describes the first value that the setting does not accept, if there is one.
fn unaccepted(setting: &Setting, texts: &[String]) -> Option<String> {
    let text = texts.iter().find(|text| !(setting.kind.accepts)(text))?;
    let shown = setting.redacted(text);
    let wanted = (setting.kind.wanted)();
    let advice = match (setting.kind.mistake)(text) {
        Some(advice) => format!(" ({advice})"),
        None => String::new(),
    };
    Some(format!("is {shown:?}: wanted {wanted}{advice}"))
}

use std::fmt;
use std::path::Path;

use super::file;
use super::problem::{Problems, similar};
use super::setting::{PREFIX, Setting};
use super::table::SETTINGS;

/// What every setting is set to, and where: the last layer that sets it is what counts.
pub(crate) struct Layers {
    /// In the order of the table.
    entries: Vec<Entry>,
    warnings: Vec<String>,
}

pub(super) struct Entry {
    pub(super) setting: &'static Setting,
    /// More than one in a list; none if it is unset.
    pub(super) texts: Vec<String>,
    pub(super) origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    /// A variable of the environment that others have specified.
    Standard(&'static str),
    File {
        name: String,
        line: usize,
    },
    Variable,
    Flag,
}

/// A setting as whoever set it knows it: `server.toml:7: tls.cert`, `USER_SERVER_TLS_CERT` or
/// `--tls-cert`.
pub(super) struct Place<'a>(pub(super) &'static Setting, pub(super) &'a Origin);

impl fmt::Display for Place<'_> {
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
        let entry = |setting: &'static Setting| Entry {
            setting,
            texts: setting.default.iter().map(ToString::to_string).collect(),
            origin: Origin::Default,
        };
        Self { entries: SETTINGS.iter().map(entry).collect(), warnings: Vec::new() }
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
            match SETTINGS.iter().find(|setting| setting.variable() == name) {
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

    /// Others may set such variables: Kubernetes does for a service of the name `user-server`. So
    /// an unknown one is no error, and one that nobody can have meant is not worth a word.
    fn warn_of_variable(&mut self, name: &str) {
        let known: Vec<_> = SETTINGS.iter().map(Setting::variable).collect();
        // The prefix, which all share, would make all of them similar.
        let names = known.iter().map(|known| &known[PREFIX.len()..]);
        if let Some(meant) = similar(&name[PREFIX.len()..], names) {
            self.warnings.push(format!("{name} is no setting: is {PREFIX}{meant} meant?"));
        }
    }

    pub(super) fn add_flags(
        &mut self,
        flags: impl Fn(&str) -> Vec<String>,
        problems: &mut Problems,
    ) {
        for setting in SETTINGS {
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
        let place = Place(setting, &origin);
        // Files that orchestrators mount as variables end with a newline: with it a path is another one.
        for text in &mut texts {
            *text = text.trim().to_owned();
        }
        let is_no_text = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        if texts.iter().any(|text| text.contains(is_no_text)) {
            problems.add(place, "has a control character, or is no UTF-8: wanted one line of text");
            return;
        }
        if texts.is_empty() {
            problems.add(place, "is an empty list");
            return;
        }
        if let Some(wrong) = unaccepted(setting, &texts) {
            problems.add(place, wrong);
            return;
        }
        self.replace(setting, texts, origin);
    }

    /// Sets a setting to values that somebody may have meant for another program, or says what is
    /// wrong with them.
    pub(super) fn set_if_accepted(
        &mut self,
        key: &str,
        texts: Vec<String>,
        origin: Origin,
    ) -> Result<(), String> {
        let setting = self.entry(key).setting;
        if let Some(wrong) = unaccepted(setting, &texts) {
            return Err(format!("{} {wrong}", Place(setting, &origin)));
        }
        self.replace(setting, texts, origin);
        Ok(())
    }

    fn replace(&mut self, setting: &'static Setting, texts: Vec<String>, origin: Origin) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.setting.key == setting.key)
        {
            *entry = Entry { setting, texts, origin };
        }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn entry(&self, key: &str) -> &Entry {
        let found = self.entries.iter().find(|entry| entry.setting.key == key);
        found.expect("keys are those of the table")
    }

    /// What a setting is set to, none if it is unset.
    pub(super) fn texts(&self, key: &str) -> &[String] {
        &self.entry(key).texts
    }

    /// Whether anybody has set it to something else than its default: who writes a default down,
    /// as `config` does, does not ask for anything.
    pub(super) fn is_set(&self, key: &str) -> bool {
        let Entry { setting, texts, .. } = self.entry(key);
        !texts.iter().map(String::as_str).eq(setting.default)
    }

    /// Whether anybody has asked for it of this program: not by a variable that is for others as well.
    pub(super) fn is_asked_for(&self, key: &str) -> bool {
        self.is_set(key) && !matches!(self.entry(key).origin, Origin::Standard(_))
    }

    /// A setting as whoever set it knows it.
    pub(crate) fn place(&self, key: &str) -> impl fmt::Display {
        let Entry { setting, origin, .. } = self.entry(key);
        Place(setting, origin)
    }

    pub(super) fn add_warnings(&mut self, warnings: Vec<String>) {
        self.warnings.extend(warnings);
    }

    /// What is odd, but no error.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// What is wrong with the first of these values that the setting does not accept.
fn unaccepted(setting: &Setting, texts: &[String]) -> Option<String> {
    let wrong = texts.iter().find(|text| !(setting.kind.accepts)(text))?;
    let (shown, wanted) = (setting.shown(wrong), (setting.kind.wanted)());
    let mistake = (setting.kind.mistake)(wrong).map(|way_out| format!(" ({way_out})"));
    Some(format!("is {shown:?}: wanted {wanted}{}", mistake.unwrap_or_default()))
}

//! The settings of a TOML file.

use std::fs;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problems, similar};
use super::setting::Setting;
use super::table::{SECTIONS, setting, settings};

/// A setting that was found in the file.
pub(super) struct Found {
    pub(super) setting: &'static Setting,
    pub(super) texts: Vec<String>,
    pub(super) line: usize,
}

/// The settings of a TOML file. Errors go to `problems`, in the order of the lines.
pub(super) fn read(path: &Path, problems: &mut Problems) -> Vec<Found> {
    let name = path.display().to_string();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.add(format_args!("{name}:"), format_args!("cannot read the file: {error}"));
            return Vec::new();
        }
    };
    let mut reader = Reader { text: &text, found: Vec::new(), errors: Vec::new() };
    match DeTable::parse(&text) {
        Ok(table) => reader.table("", table.get_ref()),
        Err(error) => {
            let message = error.message().replace('\n', ", ");
            reader.add_error(error.span().unwrap_or_default(), format!("not TOML: {message}"));
        }
    }
    reader.errors.sort_by_key(|(line, _)| *line);
    for (line, problem) in reader.errors {
        problems.add(format_args!("{name}:{line}:"), problem);
    }
    reader.found.sort_by_key(|found| found.line);
    reader.found
}

struct Reader<'a> {
    text: &'a str,
    found: Vec<Found>,
    /// Each with its line.
    errors: Vec<(usize, String)>,
}

impl Reader<'_> {
    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = match section {
                "" => name.get_ref().to_string(),
                _ => format!("{section}.{}", name.get_ref()),
            };
            self.entry(&key, name.span(), value);
        }
    }

    fn entry(&mut self, key: &str, span: Range<usize>, value: &Spanned<DeValue<'_>>) {
        if let Some(setting) = setting(key) {
            return self.setting(setting, span, value.get_ref());
        }
        match value.get_ref() {
            // Each key of an unknown section is an error of its own, with its own suggestion.
            DeValue::Table(table) if is_section(key) || !table.is_empty() => self.table(key, table),
            _ if is_section(key) => {
                let names: Vec<_> = names(key).collect();
                let names = names.join(", ");
                self.add_error(span, format!("{key} is a section: wanted [{key}] with {names}"));
            }
            _ => {
                let problem = match meant(key) {
                    Some(meant) => format!("{key} is not a setting: did you mean {meant}?"),
                    None => format!(
                        "{key} is not a setting: `user-server config --sample` lists all settings"
                    ),
                };
                self.add_error(span, problem);
            }
        }
    }

    fn setting(&mut self, setting: &'static Setting, span: Range<usize>, value: &DeValue<'_>) {
        let texts = match value {
            DeValue::Array(values) if setting.kind.list => {
                values.iter().map(|value| text(value.get_ref())).collect()
            }
            value => text(value).map(|text| vec![text]),
        };
        let Some(texts) = texts else {
            let (key, wanted) = (setting.key, (setting.kind.wanted)());
            let found = if matches!(value, DeValue::Array(_)) { "a list" } else { "a section" };
            return self.add_error(span, format!("{key} is {found}: wanted {wanted}"));
        };
        let line = self.line(span);
        self.found.push(Found { setting, texts, line });
    }

    fn add_error(&mut self, span: Range<usize>, problem: String) {
        let line = self.line(span);
        self.errors.push((line, problem));
    }

    fn line(&self, span: Range<usize>) -> usize {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        1 + before.bytes().filter(|byte| *byte == b'\n').count()
    }
}

/// A value as the text of a flag.
fn text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn is_section(key: &str) -> bool {
    SECTIONS.iter().any(|section| !section.name.is_empty() && section.name == key)
}

/// The names of the settings in a section.
fn names(section: &str) -> impl Iterator<Item = &'static str> {
    settings()
        .map(Setting::section_and_name)
        .filter(move |(of, _)| *of == section)
        .map(|(_, name)| name)
}

/// The setting that an unknown `key` probably means. In this order: a setting of the same name in another
/// section, a flag of that name, a similar key, a similar name.
fn meant(key: &str) -> Option<&'static str> {
    let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
    let same_name = settings().find(|setting| setting.key.ends_with(&format!(".{name}")));
    let flag = || settings().find(|setting| setting.flag == name);
    let similar_key = || {
        let key = similar(key, settings().map(|setting| setting.key))?;
        setting(key)
    };
    let similar_name = || {
        let name = similar(name, settings().map(|setting| setting.section_and_name().1))?;
        settings().find(|setting| setting.section_and_name().1 == name)
    };
    let meant = same_name.or_else(flag).or_else(similar_key).or_else(similar_name)?;
    Some(meant.key)
}

use std::fs;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problems, similar};
use super::setting::Setting;
use super::table::SETTINGS;

/// A setting that is in the file.
pub(super) struct Found {
    pub(super) setting: &'static Setting,
    pub(super) texts: Vec<String>,
    pub(super) line: usize,
}

/// What a TOML file sets; what is wrong with it goes to `problems`, in the order of its lines.
pub(super) fn read(path: &Path, problems: &mut Problems) -> Vec<Found> {
    let name = path.display().to_string();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.add(format_args!("{name}:"), format_args!("cannot read it: {error}"));
            return Vec::new();
        }
    };
    let mut reader = Reader { text: &text, found: Vec::new(), wrong: Vec::new() };
    match DeTable::parse(&text) {
        Ok(table) => reader.table("", table.get_ref()),
        Err(error) => {
            let message = error.message().replace('\n', ", ");
            reader.wrong(error.span().unwrap_or_default(), format!("not TOML: {message}"));
        }
    }
    reader.wrong.sort_by_key(|(line, _)| *line);
    for (line, problem) in reader.wrong {
        problems.add(format_args!("{name}:{line}:"), problem);
    }
    reader.found.sort_by_key(|found| found.line);
    reader.found
}

struct Reader<'a> {
    text: &'a str,
    found: Vec<Found>,
    /// By line.
    wrong: Vec<(usize, String)>,
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
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) {
            return self.setting(setting, span, value.get_ref());
        }
        match value.get_ref() {
            // Of an unknown section each key, so that each may be recognized.
            DeValue::Table(table) if is_section(key) || !table.is_empty() => self.table(key, table),
            _ if is_section(key) => {
                let names: Vec<_> = names(key).collect();
                let names = names.join(", ");
                self.wrong(span, format!("{key} is a section: wanted [{key}] with {names}"));
            }
            _ => {
                let problem = match meant(key) {
                    Some(meant) => format!("{key} is no setting: is {meant} meant?"),
                    None => format!(
                        "{key} is no setting: `user-server config --sample` shows all there are"
                    ),
                };
                self.wrong(span, problem);
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
            let what = if matches!(value, DeValue::Array(_)) { "a list" } else { "a section" };
            return self.wrong(span, format!("{key} is {what}: wanted {wanted}"));
        };
        let line = self.line(span);
        self.found.push(Found { setting, texts, line });
    }

    fn wrong(&mut self, span: Range<usize>, problem: String) {
        let line = self.line(span);
        self.wrong.push((line, problem));
    }

    fn line(&self, span: Range<usize>) -> usize {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        1 + before.bytes().filter(|byte| *byte == b'\n').count()
    }
}

/// A value as one would write it in a flag.
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
    names(key).next().is_some()
}

/// The names of the settings in a section.
fn names(section: &str) -> impl Iterator<Item = &'static str> {
    SETTINGS
        .iter()
        .map(Setting::section_and_name)
        .filter(move |(of, _)| *of == section)
        .map(|(_, name)| name)
}

/// The setting that somebody may have meant by `key`: one with the same name elsewhere, one that is
/// spelled almost like it, or one whose name is.
fn meant(key: &str) -> Option<&'static str> {
    let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
    let keys = || SETTINGS.iter().map(|setting| setting.key);
    let elsewhere = || keys().find(|key| key.rsplit_once('.').is_some_and(|(_, it)| it == name));
    let flag = || SETTINGS.iter().find(|it| it.flag == name).map(|it| it.key);
    let spelled = || similar(key, keys());
    let named = || {
        let names = SETTINGS.iter().map(|setting| setting.section_and_name().1);
        let name = similar(name, names)?;
        SETTINGS.iter().find(|it| it.section_and_name().1 == name).map(|it| it.key)
    };
    elsewhere().or_else(flag).or_else(spelled).or_else(named)
}

//! What `user-server config` prints.

use std::fmt::{self, Write};

use super::layers::{Entry, Layers, Origin};
use super::setting::Setting;
use super::table::SECTIONS;

/// The maximum length of a line of the sample.
const WIDTH: usize = 100;

const ABOUT_SAMPLE: &str = "\
# The configuration of user-server: all settings, with their defaults.
#
# A flag overrides an environment variable, and a variable overrides this file. Use the file with
# user-server --config FILE. `user-server config` prints the effective configuration and the origin
# of each value. `user-server check` looks for mistakes. A limit, a timeout or a mode that can be
# switched off has the value off.
";

/// A file with every setting, commented out.
pub(crate) fn sample() -> String {
    let mut out = ABOUT_SAMPLE.to_owned();
    let mut heading = "";
    for section in SECTIONS {
        begin_section(&mut out, &mut heading, section.name);
        for setting in section.settings {
            let (_, name) = setting.section_and_name();
            let value = setting.default.unwrap_or(setting.example).to_owned();
            let flag_and_variable = format!("--{}, {}", setting.flag, setting.variable());
            let unset = if setting.default.is_none() { " Unset by default." } else { "" };
            let _ = write!(out, "\n{}", comment(&format!("{}.{unset}", setting.help)));
            let value = toml_value(setting, &[value], false);
            let _ = writeln!(out, "# {flag_and_variable}\n#{name} = {value}");
        }
    }
    out
}

/// The effective configuration as a file, with the origin of each value and without secrets.
pub(crate) fn effective(layers: &Layers) -> String {
    let mut out = String::new();
    let mut heading = "";
    for Entry { setting, texts, origin } in layers.entries() {
        let (section, name) = setting.section_and_name();
        begin_section(&mut out, &mut heading, section);
        if texts.is_empty() {
            let _ = writeln!(out, "#{name} is not set");
            continue;
        }
        let value = toml_value(setting, texts, true);
        let _ = writeln!(out, "{name} = {value}  # {}", OriginComment(setting, origin));
    }
    out
}

/// The origin of a value, as a comment on its line.
struct OriginComment<'a>(&'a Setting, &'a Origin);

impl fmt::Display for OriginComment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Origin::Default => f.write_str("default"),
            Origin::Standard(name) => f.write_str(name),
            Origin::File { name, line } => write!(f, "{}:{line}", name.escape_debug()),
            Origin::Variable => f.write_str(&self.0.variable()),
            Origin::Flag => write!(f, "--{}", self.0.flag),
        }
    }
}

/// Writes the heading of a section, unless it is the current one.
fn begin_section(out: &mut String, current: &mut &'static str, name: &'static str) {
    if *current != name {
        *current = name;
        let title = SECTIONS.iter().find(|it| it.name == name).map_or("", |it| it.title);
        let _ = writeln!(out, "\n# {title}\n[{name}]");
    }
}

/// The value of a key in TOML.
fn toml_value(setting: &Setting, texts: &[String], redacted: bool) -> String {
    let each: Vec<_> = texts
        .iter()
        .map(|text| if redacted { setting.redacted(text) } else { text.into() })
        .map(|text| match text.parse::<u64>() {
            Ok(number) if setting.kind.bare => number.to_string(),
            _ if setting.kind.bare && text.parse::<bool>().is_ok() => text.into_owned(),
            _ => quoted(&text),
        })
        .collect();
    if setting.kind.list { format!("[{}]", each.join(", ")) } else { each.concat() }
}

/// A basic string in TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        let _ = match c {
            '"' | '\\' => write!(out, "\\{c}"),
            c if c.is_control() => write!(out, "\\u{:04X}", u32::from(c)),
            c => write!(out, "{c}"),
        };
    }
    out.push('"');
    out
}

/// Wraps a text into the lines of a comment.
fn comment(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out + &line + "\n"
}

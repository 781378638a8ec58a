use std::fmt::{self, Write};

use super::layers::{Entry, Layers, Origin};
use super::setting::Setting;
use super::table::{SECTIONS, SETTINGS};

/// Lines of the sample are at most this long.
const WIDTH: usize = 100;

const ABOUT_SAMPLE: &str = "\
# The configuration of user-server: all its settings, as they are by default. Flags come before
# variables of the environment, these before this file: user-server --config FILE. What is in
# effect, and why, is shown by `user-server config`; `user-server check` looks for mistakes.
";

/// A file with every setting, commented out.
pub(crate) fn sample() -> String {
    let mut out = ABOUT_SAMPLE.to_owned();
    let mut section = "";
    for setting in SETTINGS {
        begin_section(&mut out, &mut section, setting);
        let (_, name) = setting.section_and_name();
        let value = setting.default.unwrap_or(setting.example).to_owned();
        let origin = format!("--{}, {}", setting.flag, setting.variable());
        let unset = if setting.default.is_none() { " Unset by default." } else { "" };
        let _ = write!(out, "\n{}", comment(&format!("{}.{unset}", setting.help)));
        let _ = writeln!(out, "# {origin}\n#{name} = {}", value_of(setting, &[value], false));
    }
    out
}

/// What is in effect, as a file, with where each value comes from. Nothing that is secret.
pub(crate) fn effective(layers: &Layers) -> String {
    let mut out = String::new();
    let mut section = "";
    for Entry { setting, texts, origin } in layers.entries() {
        begin_section(&mut out, &mut section, setting);
        let (_, name) = setting.section_and_name();
        let _ = match texts[..] {
            [] => writeln!(out, "#{name} is not set"),
            _ => writeln!(
                out,
                "{name} = {}  # {}",
                value_of(setting, texts, true),
                Told(setting, origin)
            ),
        };
    }
    out
}

/// Where a value comes from.
struct Told<'a>(&'a Setting, &'a Origin);

impl fmt::Display for Told<'_> {
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

fn begin_section(out: &mut String, section: &mut &'static str, setting: &Setting) {
    let (name, _) = setting.section_and_name();
    if *section != name {
        *section = name;
        let title = SECTIONS.iter().find(|(it, _)| *it == name).map_or("", |(_, title)| title);
        let _ = writeln!(out, "\n# {title}\n[{name}]");
    }
}

/// What stands behind the equals sign.
fn value_of(setting: &Setting, texts: &[String], redacted: bool) -> String {
    let each: Vec<_> = texts
        .iter()
        .map(|text| if redacted { setting.shown(text) } else { text.into() })
        .map(|text| match text.parse::<u64>() {
            Ok(number) if setting.kind.bare => number.to_string(),
            _ if setting.kind.bare && text.parse::<bool>().is_ok() => text.into_owned(),
            _ => quoted(&text),
        })
        .collect();
    if setting.kind.list { format!("[{}]", each.join(", ")) } else { each.concat() }
}

/// A basic string of TOML.
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

/// Text as lines of a comment.
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

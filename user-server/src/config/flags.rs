//! The command-line flags of all settings.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction};

use super::setting::{Section, Setting};
use super::table::SECTIONS;

/// The flags of all settings, with their help.
pub(crate) fn flags() -> Vec<Arg> {
    let mut flags = Vec::new();
    for section in SECTIONS {
        for setting in section.settings {
            flags.push(flag(section, setting));
        }
    }
    flags
}

fn flag(section: &Section, setting: &'static Setting) -> Arg {
    let action = if setting.kind.list { ArgAction::Append } else { ArgAction::Set };
    let default = setting.default.map(|it| format!(" [default: {it}]")).unwrap_or_default();
    let arg = Arg::new(setting.flag)
        .long(setting.flag)
        .value_name(setting.value)
        .help(format!("{} [env: {}]{default}", setting.help, setting.variable()))
        .help_heading(section.title)
        .action(action)
        // `Layers` checks the value, as for every other source.
        .value_parser(ValueParser::string())
        .allow_negative_numbers(true)
        .global(true);
    if setting.kind.list { arg.value_delimiter(',') } else { arg }
}

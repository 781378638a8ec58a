use clap::builder::ValueParser;
use clap::{Arg, ArgAction};

use super::setting::Setting;
use super::table::{SECTIONS, SETTINGS};

/// The flags of all settings, with the help for each.
pub(crate) fn flags() -> impl Iterator<Item = Arg> {
    SETTINGS.iter().map(flag)
}

fn flag(setting: &'static Setting) -> Arg {
    let (section, _) = setting.section_and_name();
    let title = SECTIONS.iter().find(|(name, _)| *name == section).map_or("", |(_, title)| title);
    let action = if setting.kind.list { ArgAction::Append } else { ArgAction::Set };
    let default = setting.default.map(|it| format!(" [default: {it}]")).unwrap_or_default();
    let arg = Arg::new(setting.flag)
        .long(setting.flag)
        .value_name(setting.value)
        .help(format!("{} [env: {}]{default}", setting.help, setting.variable()))
        .help_heading(title)
        .action(action)
        // The setting itself says what it accepts.
        .value_parser(ValueParser::string())
        .allow_negative_numbers(true)
        .global(true);
    if setting.kind.list { arg.value_delimiter(',') } else { arg }
}

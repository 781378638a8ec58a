//! The configuration: one table of settings (`table.rs`), from which come the flags, the variables
//! of the environment, the keys of the file, the help, the sample and what `config` prints.
//!
//! ```text
//! table.rs --- setting.rs, kind.rs, values.rs, auth.rs, limits.rs    what there is and is accepted
//!    |
//! file.rs, variables, flags.rs  --layers.rs-->  Layers      what is set, and where
//!    |                                             |
//!    `-- problem.rs                                |-- Config           for the program
//!                                                  |-- contradictions.rs, methods.rs
//!                                                  `-- print.rs         for people
//! ```
//!
//! A flag comes before a variable, this before the file, the file before the variables of OpenTelemetry
//! (`otel.rs`), and these before the default.

mod auth;
mod contradictions;
mod file;
mod flags;
mod kind;
mod layers;
mod limits;
mod methods;
mod mistakes;
mod otel;
mod print;
mod problem;
mod setting;
mod table;
mod units;
mod values;

use std::path::Path;
use std::time::Duration;

use self::kind::Period;

pub(super) use self::auth::{Grantee, Jwks};
pub(super) use self::flags::flags;
pub(super) use self::kind::Kind;
pub(super) use self::layers::Layers;
pub(super) use self::limits::Limited;
pub(super) use self::print::{effective, sample};
pub(super) use self::problem::Problems;
pub(super) use self::table::Config;
pub(super) use self::values::{
    ClientAuth, Discovery, LogFormat, OtlpHeader, PROXY, RequestCompression, ResponseCompression,
    Store, TlsVersion,
};

/// The variable that names the file.
pub(super) const FILE_VARIABLE: &str = "USER_SERVER_CONFIG";

/// What is configured, and where each value comes from: by `flags`, which gives what a flag is set
/// to, by the variables of the environment, and by the file.
///
/// # Errors
/// All that is wrong with any of them, whether or not it is used.
pub(super) fn load(
    flags: impl Fn(&str) -> Vec<String>,
    variables: impl Iterator<Item = (String, String)>,
    file: Option<&Path>,
) -> Result<(Config, Layers), Problems> {
    let mut problems = Problems::default();
    let mut layers = Layers::defaults();
    let variables: Vec<_> = variables.collect();
    otel::add(&mut layers, &variables);
    if let Some(path) = file {
        layers.add_file(path, &mut problems);
    }
    layers.add_variables(variables.iter().cloned(), &mut problems);
    layers.add_flags(flags, &mut problems);
    problems.none_yet()?;
    let config = Config::gather(|key| layers.texts(key));
    contradictions::find(&config, &layers, &mut problems);
    methods::find(&config, &layers, &mut problems);
    problems.none_yet()?;
    layers.add_warnings(methods::warnings(&config, &layers));
    if let Store::Postgres(url) = &config.store {
        layers.add_warnings(mistakes::of_variables(url, variables.iter().map(|(name, _)| &**name)));
    }
    Ok((config, layers))
}

/// A time that is not none, of an argument that is no setting.
pub(super) fn period(text: &str) -> Result<Duration, String> {
    Period::parse(text).ok_or_else(|| format!("wanted {}", Period::wanted()))
}

//! The configuration: one table of settings (`table/`). The flags, the environment variables, the keys of
//! the file, the help, the sample and the output of `config` are derived from it.
//!
//! ```text
//! table/ --- setting.rs, kind.rs, values.rs, auth.rs, limits.rs    the settings and accepted values
//!    |
//! file.rs, variables, flags.rs  --layers.rs-->  Layers      the values and their origins
//!    |                                             |
//!    `-- problem.rs                                |-- Config           for the program
//!                                                  |-- contradictions.rs, methods.rs
//!                                                  `-- print.rs         for people
//! ```
//!
//! A flag overrides a variable, and a variable overrides the file. The file overrides the variables of
//! OpenTelemetry (`otel.rs`), and these override the default.

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

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use self::kind::Period;
use balafon::Method;

pub(super) use self::auth::{Grantee, Jwks};
pub(super) use self::flags::flags;
pub(super) use self::kind::Kind;
pub(super) use self::layers::Layers;
pub(super) use self::limits::Rate;
pub(super) use self::print::{effective, sample};
pub(super) use self::problem::Problems;
pub(super) use self::table::Config;
pub(super) use self::values::{
    ClientAuth, Discovery, LogFormat, OtlpHeader, PROXY, RequestCompression, ResponseCompression,
    Store, TlsVersion,
};

/// The environment variable with the path of the file.
pub(super) const FILE_VARIABLE: &str = "USER_SERVER_CONFIG";

/// The configuration and the origin of each value. `flags` returns the values of a flag. `methods` are all
/// methods of the program, which settings can name.
///
/// # Errors
/// All errors of all sources, also of values that another source overrides.
pub(super) fn load(
    flags: impl Fn(&str) -> Vec<String>,
    variables: impl Iterator<Item = (String, String)>,
    file: Option<&Path>,
    methods: &[&'static Method],
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
    methods::find(&config, methods, &layers, &mut problems);
    problems.none_yet()?;
    layers.add_warnings(methods::warnings(&config, methods, &layers));
    if let Store::Postgres(url) = &config.store.location {
        layers.add_warnings(mistakes::of_variables(url, variables.iter().map(|(name, _)| &**name)));
    }
    Ok((config, layers))
}

/// Parses a duration above zero, for an argument that is not a setting.
pub(super) fn period(text: &str) -> Result<Duration, InvalidPeriod> {
    Period::parse(text).ok_or(InvalidPeriod)
}

/// A text is not a duration above zero.
#[derive(Debug)]
pub(super) struct InvalidPeriod;

impl fmt::Display for InvalidPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wanted {}", Period::wanted())
    }
}

impl Error for InvalidPeriod {}

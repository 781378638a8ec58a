//! A clear error for Protobuf editions. Neither protox nor prost reads them.

use std::fs;
use std::path::Path;

use crate::error::Error;

/// The error of a file that begins with `edition`, in place of the parser's; other errors as they are.
pub(crate) fn explain(err: protox::Error, includes: &[impl AsRef<Path>]) -> Error {
    let Some(name) = err.file() else { return err.into() };
    let mut paths = vec![Path::new(name).to_owned()];
    for include in includes {
        paths.push(include.as_ref().join(name));
    }
    let source = paths.iter().find_map(|path| fs::read_to_string(path).ok());
    match source.as_deref().and_then(edition_line) {
        Some(line) => Error::invalid(format!(
            "{name}:{line}:1: editions are not supported: \
             wanted syntax = \"proto3\" or syntax = \"proto2\""
        )),
        None => err.into(),
    }
}

/// The line of the declaration `edition = "…"`, if the file has it in place of `syntax`.
fn edition_line(source: &str) -> Option<usize> {
    let mut rest = source.trim_start_matches('\u{feff}').trim_start();
    loop {
        if rest.starts_with("//") {
            rest = rest.split_once('\n')?.1.trim_start();
        } else if rest.starts_with("/*") {
            rest = rest.split_once("*/")?.1.trim_start();
        } else {
            break;
        }
    }
    let value = rest.strip_prefix("edition")?.trim_start();
    let before = &source[..source.len() - rest.len()];
    value.starts_with('=').then(|| before.matches('\n').count() + 1)
}

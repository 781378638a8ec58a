//! The documents on status codes list codes that a gRPC library never makes by itself: they are the application's.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(sources(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn application_codes_never_come_from_the_grpc_layer() {
    let codes = [
        "Status::invalid_argument(",
        "Status::not_found(",
        "Status::already_exists(",
        "Status::failed_precondition(",
        "Status::aborted(",
        "Status::out_of_range(",
        "Status::data_loss(",
    ];
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/grpc"));
    assert!(sources.len() > 30, "{} files", sources.len());
    // `status.rs` has the constructors, and tests of them.
    for path in sources.iter().filter(|path| !path.ends_with("grpc/status.rs")) {
        let text = fs::read_to_string(path).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            assert!(!codes.iter().any(|code| line.contains(code)), "{}: {line}", path.display());
        }
    }
}

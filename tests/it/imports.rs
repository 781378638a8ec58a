//! The house has floors (see DESIGN.md, "The house"), and one package cannot enforce them: these
//! tests read the imports.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// No file below `folder` but those named in `except` may have one of `words` outside a comment.
fn assert_absent(folder: &str, except: &[&str], words: &[&str]) {
    for (path, text) in sources(folder) {
        let path = path.to_str().unwrap();
        if except.iter().any(|except| path.contains(except)) {
            continue;
        }
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for (number, line) in code.enumerate() {
            for word in words {
                assert!(!line.contains(word), "{path}, line {number} of code: {word} in {line}");
            }
        }
    }
}

#[test]
fn the_grpc_layer_knows_nothing_of_what_is_built_on_it() {
    assert_absent(
        "grpc",
        &[],
        &["crate::users", "crate::app", "crate::services", "crate::interceptors"],
    );
}

#[test]
fn only_the_server_names_h2_and_sockets() {
    assert_absent("grpc", &["/grpc/server/"], &["h2::", "tokio::net", "rustls"]);
    // Which is a client of the database.
    assert_absent("users", &["/postgres/connector.rs"], &["h2::", "tokio::net"]);
    assert_absent("services", &[], &["h2::", "tokio::net"]);
    // Which is a client, of what is not gRPC.
    let collector = ["/traces/collector.rs"];
    assert_absent("interceptors", &collector, &["h2::", "tokio::net"]);
}

#[test]
fn services_interceptors_and_users_use_the_public_api_only() {
    for folder in ["services", "interceptors", "users"] {
        assert_absent(folder, &[], &["crate::grpc", "crate::app"]);
    }
}

#[test]
fn the_domain_and_the_stores_know_no_grpc() {
    let grpc =
        ["crate::Status", "crate::{", "prost", "crate::rpc", "Sink", "users::pb", "super::pb"];
    let above = ["service.rs", "/batch/", "idempotency.rs", "error.rs", "users/mod.rs"];
    assert_absent("users", &above, &grpc);
    let with_stores = [&above[..], &["/store/"]].concat();
    assert_absent("users", &with_stores, &["store::"]);
}

#[test]
fn the_grpc_layer_never_makes_the_codes_of_the_application() {
    // What the documents on status codes list as such.
    let codes = [
        "Status::invalid_argument(",
        "Status::not_found(",
        "Status::already_exists(",
        "Status::failed_precondition(",
        "Status::aborted(",
        "Status::out_of_range(",
        "Status::data_loss(",
    ];
    // Its tests have statuses of applications.
    assert_absent("grpc", &["/grpc/status.rs"], &codes);
}

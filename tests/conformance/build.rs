//! Generates the suite's service from the .proto files of the suite's own release.

use std::env;
use std::path::PathBuf;

/// The `proto` folder of the Go module `connectrpc.com/conformance`, which `run` downloads.
const PROTO_DIR: &str = "CONFORMANCE_PROTO_DIR";

fn main() -> Result<(), balafon_codegen::Error> {
    println!("cargo:rerun-if-env-changed={PROTO_DIR}");
    let folder = env::var_os(PROTO_DIR)
        .unwrap_or_else(|| panic!("{PROTO_DIR} is not set: build with tests/conformance/run"));
    let folder = PathBuf::from(folder);
    let package = folder.join("connectrpc/conformance/v1");
    let protos = ["service.proto", "server_compat.proto"].map(|name| package.join(name));
    balafon_codegen::compile(&protos, &[folder])
}

//! Generates code with the settings of the builder.

use std::env;
use std::path::PathBuf;

fn main() -> Result<(), balafon_codegen::Error> {
    let mut prost = balafon_codegen::prost_build::Config::new();
    prost.btree_map(["."]);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets it for build scripts"));
    balafon_codegen::Builder::new()
        .prost(prost)
        .crate_path("::rpc")
        .include_file("protos.rs")
        .file_descriptor_set_path(out.join("all.bin"))
        .compile(&["proto/basket.proto", "proto/item.proto"], &["proto"])
}

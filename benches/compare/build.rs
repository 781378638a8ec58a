//! Generates the services for each library from the same two files: messages once, with prost, and buffa's for
//! connectrpc. It leaves the descriptors for the generators of Go.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message;

const FILES: [&str; 2] = ["user_service.proto", "echo.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let folders = ["../../proto", "proto"];
    for folder in folders {
        println!("cargo:rerun-if-changed={folder}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("Cargo sets OUT_DIR")?);

    let mut config = balafon_codegen::prost_build::Config::new();
    config.bytes(["."]);
    balafon_codegen::Builder::new().prost(config).compile(&["proto/echo.proto"], &["proto"])?;

    let mut compiler = protox::Compiler::new(folders)?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let descriptors = compiler.encode_file_descriptor_set();
    fs::write(out.join("descriptors.bin"), &descriptors)?;
    tonic(&descriptors, &folder(&out, "tonic")?)?;
    connect(&out.join("descriptors.bin"), &folder(&out, "connect")?)
}

fn tonic(descriptors: &[u8], out: &Path) -> Result<(), Box<dyn Error>> {
    tonic_prost_build::configure()
        .extern_path(".ru.tinkoff.kora.example", "::user_server::pb")
        .extern_path(".compare", "::compare::echo")
        .out_dir(out)
        .compile_fds(prost_types::FileDescriptorSet::decode(descriptors)?)?;
    Ok(())
}

fn connect(descriptors: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    connectrpc_build::Config::new()
        .files(&FILES)
        .descriptor_set(descriptors)
        .include_file("all.rs")
        .out_dir(out)
        // It would name the descriptors, which this script has written itself: it would run each time.
        .emit_rerun_directives(false)
        .compile()?;
    Ok(())
}

fn folder(out: &Path, name: &str) -> std::io::Result<PathBuf> {
    let folder = out.join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

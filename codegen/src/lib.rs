//! Code generation for [balafon](https://docs.rs/balafon): one call in `build.rs` turns `.proto` files into
//! messages, service traits and method descriptors. Written in Rust throughout: there is no `protoc` to install.
//!
//! # Use
//!
//! The crate needs balafon itself and this crate, nothing else; the generated code reaches prost through balafon.
//!
//! ```toml
//! [dependencies]
//! balafon = { version = "0.1", default-features = false }
//!
//! [build-dependencies]
//! balafon-codegen = "0.1"
//! ```
//!
//! `build.rs` names the files and the directories that their imports are looked up in:
//!
//! ```no_run
//! fn main() -> Result<(), balafon_codegen::Error> {
//!     balafon_codegen::compile(&["proto/greeter.proto"], &["proto"])
//! }
//! ```
//!
//! and the crate includes the result, one file for each protobuf package:
//!
//! ```text
//! pub mod greeter {
//!     balafon::include_proto!("example.greeter");
//! }
//! ```
//!
//! # What is generated
//!
//! Messages and enums are those of [prost](prost_build), with its `Name` trait for use in a `google.protobuf.Any`.
//! `google.protobuf.Empty` is `()`. A service `Greeter` with the method `SayHello` becomes
//!
//! * the trait `Greeter`, with the `async` method `say_hello` to implement and `into_service` for the router;
//! * the module `greeter`, with `NAME`, the serialized `FILE_DESCRIPTOR_SET`, and the descriptor `SAY_HELLO`, which an
//!   interceptor compares with.
//!
//! None of it holds logic: it names types and paths, and balafon does the rest. Comments in the `.proto` become
//! documentation. Code blocks in them are shown, not run as tests.
//!
//! # Names
//!
//! Names follow prost: a method `Type` is `r#type`, its descriptor `TYPE`. What would clash is renamed:
//!
//! | In the `.proto` | In Rust |
//! |---|---|
//! | method `IntoService` | trait method `into_service_` |
//! | methods `Name` and `FileDescriptorSet` | descriptors `NAME_` and `FILE_DESCRIPTOR_SET_` |
//! | service `User` beside a message `user`, or beside a package nested in its own, `pkg.user` | `UserService` and `user_service` |
//! | methods `GetUser` and `getUser` of one service | an error |

mod comments;
mod descriptors;
mod error;
mod names;
mod service;

use std::env;
use std::path::Path;

pub use prost_build;
use prost_build::Config;

pub use crate::error::Error;

/// Compiles `.proto` files to Rust files in Cargo's `OUT_DIR`: the one call that most users need.
///
/// `protos` are the files, `includes` the directories that hold them and what they import. An include directory
/// comes first in the lookup of an import if it is named first; the `google/protobuf` files are always found.
///
/// Tells Cargo to run the build script again when one of the files that were read changes.
///
/// # Errors
///
/// The message names the file, line and column if a file is not valid. Also fails if a file is missing or not below
/// an include directory, or if the output cannot be written.
pub fn compile(protos: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Error> {
    compile_with(Config::new(), protos, includes)
}

/// Like [`compile`], with settings of [prost's](prost_build) generator.
///
/// ```no_run
/// fn main() -> Result<(), balafon_codegen::Error> {
///     let mut config = balafon_codegen::prost_build::Config::new();
///     config.bytes(["."]);
///     balafon_codegen::compile_with(config, &["proto/files.proto"], &["proto"])
/// }
/// ```
///
/// The service generator, `prost_path`, `prost_types_path` and `enable_type_names` are balafon's; the settings that
/// concern `protoc` have no effect. The right side of an `extern_path` must be a full path: it begins with `::` or
/// `crate::`. With another `out_dir` the Rust files go there, while the descriptor sets that they include stay in
/// `OUT_DIR`.
///
/// # Errors
///
/// As [`compile`].
pub fn compile_with(
    config: Config,
    protos: &[impl AsRef<Path>],
    includes: &[impl AsRef<Path>],
) -> Result<(), Error> {
    let out_dir = env::var_os("OUT_DIR").ok_or_else(|| {
        Error::invalid("OUT_DIR is not set: balafon_codegen is to be called from a build script")
    })?;
    compile_to(out_dir.as_ref(), config, protos, includes)
}

/// [`compile_with`] for tests, which have no `OUT_DIR`: `out_dir` takes the descriptor sets.
#[doc(hidden)]
pub fn compile_to(
    out_dir: &Path,
    mut config: Config,
    protos: &[impl AsRef<Path>],
    includes: &[impl AsRef<Path>],
) -> Result<(), Error> {
    check_paths(protos, includes)?;
    let mut compiler = protox::Compiler::new(includes)?;
    compiler.include_imports(true).open_files(protos)?;
    rerun_if_changed(&compiler);

    descriptors::write(&compiler.encode_file_descriptor_set(), out_dir)?;

    let mut files = compiler.include_source_info(true).file_descriptor_set();
    comments::clean(&mut files);
    config
        .service_generator(Box::new(service::Generator::new(&files)?))
        .prost_path("::balafon::prost")
        .prost_types_path("::balafon::prost_types")
        .enable_type_names()
        // What every implementation writes into an `Any`. A domain of the user comes first.
        .type_name_domain(["."], "type.googleapis.com")
        .compile_fds(files)
        .map_err(|err| Error::io("generating code", err))
}

/// The serialized `google.protobuf.FileDescriptorSet` of files and of what they import, with custom
/// options: for a schema that reflection should know although no service refers to it, such as that
/// of error details.
///
/// # Errors
///
/// As [`compile`].
pub fn descriptor_set(
    protos: &[impl AsRef<Path>],
    includes: &[impl AsRef<Path>],
) -> Result<Vec<u8>, Error> {
    let mut compiler = protox::Compiler::new(includes)?;
    compiler.include_imports(true).open_files(protos)?;
    rerun_if_changed(&compiler);
    Ok(compiler.encode_file_descriptor_set())
}

/// Says what is not there, before the compiler says that it is not in an include path.
fn check_paths(protos: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Error> {
    let includes = includes.iter().map(AsRef::as_ref);
    if let Some(missing) = includes.clone().find(|include| !include.is_dir()) {
        let missing = missing.display();
        return Err(Error::invalid(format!("include directory '{missing}' does not exist")));
    }
    let found = |proto: &Path| proto.exists() || includes.clone().any(|it| it.join(proto).exists());
    match protos.iter().map(AsRef::as_ref).find(|proto| !found(proto)) {
        Some(missing) => {
            Err(Error::invalid(format!("file '{}' does not exist", missing.display())))
        }
        None => Ok(()),
    }
}

#[expect(clippy::print_stdout, reason = "Cargo reads it from the standard output")]
fn rerun_if_changed(compiler: &protox::Compiler) {
    // The google/protobuf files are built into protox and have no path.
    for path in compiler.files().filter_map(|file| file.path()) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
}

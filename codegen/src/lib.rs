//! Code generation for [balafon](https://docs.rs/balafon): one call in `build.rs` turns `.proto` files into
//! messages, service traits and method descriptors. It is Rust throughout: there is no `protoc` to install.
//!
//! # Use
//!
//! A crate needs balafon and this crate. The generated code uses prost through balafon.
//!
//! ```toml
//! [dependencies]
//! balafon = { version = "0.1", default-features = false }
//!
//! [build-dependencies]
//! balafon-codegen = "0.1"
//! ```
//!
//! `build.rs` names the files, and the directories in which imports are looked up:
//!
//! ```no_run
//! fn main() -> Result<(), balafon_codegen::Error> {
//!     balafon_codegen::compile(&["proto/greeter.proto"], &["proto"])
//! }
//! ```
//!
//! The crate includes the generated code, one file for each protobuf package:
//!
//! ```text
//! pub mod greeter {
//!     balafon::include_proto!("example.greeter");
//! }
//! ```
//!
//! Packages that refer to each other have to be nested modules. [`Builder::include_file`] writes one
//! file that includes all of them.
//!
//! # Generated code
//!
//! Messages and enums are those of [prost](prost_build), with its `Name` trait for use in a `google.protobuf.Any`.
//! `google.protobuf.Empty` is `()`. A service `Greeter` with the method `SayHello` becomes
//!
//! * the trait `Greeter`, with the `async` method `say_hello` to implement and `into_service` for the router;
//! * the module `greeter`, with `NAME`, the serialized `FILE_DESCRIPTOR_SET`, and the descriptor `SAY_HELLO`, which
//!   interceptors compare with.
//!
//! The generated code has types and paths but no logic. Comments in the `.proto` become documentation. Code blocks
//! in them are shown and not run as tests.
//!
//! Files of `proto2` and `proto3` are supported, files of Protobuf editions are not.
//!
//! # Names
//!
//! Names follow prost: a method `Type` is `r#type`, its descriptor `TYPE`. A package `a.type` is the module
//! `a::r#type`, and its file is included by `include_proto!("a.type")`. Clashing names are changed:
//!
//! | In the `.proto` | In Rust |
//! |---|---|
//! | method `IntoService` | trait method `into_service_` |
//! | methods `Name` and `FileDescriptorSet` | descriptors `NAME_` and `FILE_DESCRIPTOR_SET_` |
//! | service `User` beside a message `user`, or beside a package nested in its own, `pkg.user` | `UserService` and `user_service` |
//! | methods `GetUser` and `getUser` of one service | an error |

mod btree_map;
mod builder;
mod comments;
mod descriptors;
mod edition;
mod error;
mod names;
mod service;

use std::path::Path;

pub use prost_build;

pub use crate::builder::Builder;
pub use crate::error::Error;

/// Compiles `.proto` files to Rust files in Cargo's `OUT_DIR`. [`Builder`] does the same with settings.
///
/// `protos` are the files. `includes` are the directories in which files and imports are looked up, in
/// this order. The `google/protobuf` files are always found. Cargo runs the build script again when one
/// of the files changes.
///
/// # Errors
///
/// If a file is invalid, missing or not below an include directory, or if the output cannot be written.
/// The message names the file, and for an invalid one the line and the column.
pub fn compile(protos: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Error> {
    Builder::new().compile(protos, includes)
}

/// The serialized `google.protobuf.FileDescriptorSet` of files and their imports, with custom options.
/// It is for a schema that reflection should know although no service refers to it, such as that of
/// error details.
///
/// # Errors
///
/// As [`compile`].
pub fn descriptor_set(
    protos: &[impl AsRef<Path>],
    includes: &[impl AsRef<Path>],
) -> Result<Vec<u8>, Error> {
    Ok(builder::open(protos, includes)?.encode_file_descriptor_set())
}

//! The settings of a compilation, and its steps.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use prost_build::{Config, Module};
use prost_types::FileDescriptorSet;

use crate::error::Error;
use crate::{btree_map, comments, descriptors, edition, names, service};

/// Compiles `.proto` files with settings.
///
/// ```no_run
/// fn main() -> Result<(), balafon_codegen::Error> {
///     let mut prost = balafon_codegen::prost_build::Config::new();
///     prost.btree_map(["."]);
///     balafon_codegen::Builder::new()
///         .prost(prost)
///         .include_file("protos.rs")
///         .compile(&["proto/files.proto"], &["proto"])
/// }
/// ```
#[derive(Debug)]
pub struct Builder {
    prost: Config,
    crate_path: String,
    out_dir: Option<PathBuf>,
    /// The directory for the descriptor sets that the generated code includes.
    descriptor_dir: Option<PathBuf>,
    include_file: Option<PathBuf>,
    file_descriptor_set: Option<PathBuf>,
}

impl Builder {
    /// Starts with the settings of [`compile`](crate::compile).
    pub fn new() -> Self {
        Self {
            prost: Config::new(),
            crate_path: "::balafon".to_owned(),
            out_dir: None,
            descriptor_dir: None,
            include_file: None,
            file_descriptor_set: None,
        }
    }

    /// Generates messages with these settings of [prost](prost_build).
    ///
    /// Some of them have no effect: the service generator, `prost_path`, `prost_types_path`,
    /// `enable_type_names`, the settings of `protoc`, and those of files, for which this builder has
    /// settings of its own. `Debug` of messages with a `btree_map` shows enum values as numbers. The right side of an `extern_path` has to be a full path that begins with
    /// `::` or `crate::`.
    #[must_use]
    pub fn prost(mut self, config: Config) -> Self {
        self.prost = config;
        self
    }

    /// The path to balafon in the generated code, for a crate that has renamed the dependency:
    /// `::balafon` unless set. It has to begin with `::` or `crate::`.
    ///
    /// With `rpc = { package = "balafon", version = "0.1" }` in Cargo.toml it is `::rpc`, and the
    /// crate includes code by `rpc::include_proto!`.
    #[must_use]
    pub fn crate_path(mut self, path: impl Into<String>) -> Self {
        self.crate_path = path.into();
        self
    }

    /// The directory for the Rust files: Cargo's `OUT_DIR` unless set. The descriptor sets, which the
    /// Rust files include, are always in `OUT_DIR`.
    #[must_use]
    pub fn out_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(path.into());
        self
    }

    /// Also writes a Rust file of this name that includes all packages, each in its own nested
    /// modules. With `protos.rs` the package `a.b` is the module `a::b` within
    /// `include_proto!("protos")`.
    ///
    /// Packages that refer to each other need these modules.
    #[must_use]
    pub fn include_file(mut self, name: impl Into<PathBuf>) -> Self {
        self.include_file = Some(name.into());
        self
    }

    /// Also writes the serialized `google.protobuf.FileDescriptorSet` of all files, and of the files
    /// that they import, to this path. It has the custom options and no comments.
    #[must_use]
    pub fn file_descriptor_set_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.file_descriptor_set = Some(path.into());
        self
    }

    /// The directory for the descriptor sets, for tests, which have no `OUT_DIR`.
    #[doc(hidden)]
    #[must_use]
    pub fn descriptor_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.descriptor_dir = Some(path.into());
        self
    }

    /// Compiles these files, as [`compile`](crate::compile) does.
    ///
    /// # Errors
    ///
    /// As [`compile`](crate::compile); and if `crate_path` does not begin with `::` or `crate::`.
    pub fn compile(
        mut self,
        protos: &[impl AsRef<Path>],
        includes: &[impl AsRef<Path>],
    ) -> Result<(), Error> {
        if !names::is_absolute(&self.crate_path) {
            let path = &self.crate_path;
            return Err(Error::invalid(format!(
                "crate path '{path}': wanted a path that begins with '::' or 'crate::'"
            )));
        }
        let descriptor_dir = match self.descriptor_dir.take() {
            Some(dir) => dir,
            None => cargo_out_dir()?,
        };
        let out_dir = self.out_dir.take().unwrap_or_else(|| descriptor_dir.clone());

        let mut compiler = open(protos, includes)?;
        let set = compiler.encode_file_descriptor_set();
        descriptors::write(&set, &descriptor_dir)?;
        if let Some(path) = &self.file_descriptor_set {
            descriptors::write_if_changed(path, &set)?;
        }

        let mut files = compiler.include_source_info(true).file_descriptor_set();
        comments::clean(&mut files);
        let packages = self.generate(files)?;
        for (module, code) in &packages {
            let path = out_dir.join(names::package_file(module));
            descriptors::write_if_changed(&path, code.as_bytes())?;
        }
        if let Some(name) = &self.include_file {
            let code = include_all(packages.keys());
            descriptors::write_if_changed(&out_dir.join(name), code.as_bytes())?;
        }
        Ok(())
    }

    /// The code of each package.
    fn generate(&mut self, files: FileDescriptorSet) -> Result<BTreeMap<Module, String>, Error> {
        let generator = service::Generator::new(&files, &self.crate_path)?;
        self.prost
            .service_generator(Box::new(generator))
            .prost_path(format!("{}::prost", self.crate_path))
            .prost_types_path(format!("{}::prost_types", self.crate_path))
            .enable_type_names()
            // Every implementation writes this domain into an `Any`. A domain of the user comes first.
            .type_name_domain(["."], "type.googleapis.com");
        let mut requests = Vec::new();
        for file in files.file {
            requests.push((Module::from_protobuf_package_name(file.package()), file));
        }
        let generated =
            self.prost.generate(requests).map_err(|err| Error::io("generating code", err))?;
        let mut packages = BTreeMap::new();
        for (module, code) in generated {
            packages.insert(module, btree_map::with_debug(&code));
        }
        Ok(packages)
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

/// Parses the files and their imports.
pub(crate) fn open(
    protos: &[impl AsRef<Path>],
    includes: &[impl AsRef<Path>],
) -> Result<protox::Compiler, Error> {
    check_paths(protos, includes)?;
    let mut compiler = protox::Compiler::new(includes)?;
    compiler
        .include_imports(true)
        .open_files(protos)
        .map_err(|err| edition::explain(err, includes))?;
    rerun_if_changed(&compiler);
    Ok(compiler)
}

fn cargo_out_dir() -> Result<PathBuf, Error> {
    match env::var_os("OUT_DIR") {
        Some(dir) => Ok(dir.into()),
        None => Err(Error::invalid(
            "OUT_DIR is not set: balafon_codegen is to be called from a build script",
        )),
    }
}

/// Code that includes the file of each package within its nested modules. The packages are sorted.
fn include_all<'a>(packages: impl Iterator<Item = &'a Module>) -> String {
    let mut code = "// This file is @generated by balafon-codegen.\n".to_owned();
    let mut open: Vec<&str> = Vec::new();
    for package in packages {
        let parts: Vec<&str> = package.parts().collect();
        while !parts.starts_with(&open) {
            open.pop();
            code.push_str("}\n");
        }
        for part in &parts[open.len()..] {
            code.push_str(&format!("pub mod {part} {{\n"));
        }
        open = parts;
        // Relative to this file.
        code.push_str(&format!("include!({:?});\n", names::package_file(package)));
    }
    for _ in open {
        code.push_str("}\n");
    }
    code
}

/// Reports a missing path itself: the compiler would only say that it is in no include directory.
fn check_paths(protos: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Error> {
    for include in includes.iter().map(AsRef::as_ref) {
        if !include.is_dir() {
            let include = include.display();
            return Err(Error::invalid(format!("include directory '{include}' does not exist")));
        }
    }
    for proto in protos.iter().map(AsRef::as_ref) {
        let is_found = || includes.iter().any(|include| include.as_ref().join(proto).exists());
        if !proto.exists() && !is_found() {
            let proto = proto.display();
            return Err(Error::invalid(format!("file '{proto}' does not exist")));
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "Cargo reads it from the standard output")]
fn rerun_if_changed(compiler: &protox::Compiler) {
    // The google/protobuf files are built into protox and have no path.
    for path in compiler.files().filter_map(|file| file.path()) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
}

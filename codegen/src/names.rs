//! Rust names for services and methods, and where they would clash.

use std::collections::{HashMap, HashSet};

use prost_build::Module;
use prost_types::{FileDescriptorProto, FileDescriptorSet, ServiceDescriptorProto};

use crate::error::Error;

/// The full protobuf name of `name` in `package`, which may be empty.
pub(crate) fn full(package: &str, name: &str) -> String {
    if package.is_empty() { name.to_owned() } else { format!("{package}.{name}") }
}

/// The file in `OUT_DIR` that holds the descriptor set of a service, named by its full name.
pub(crate) fn descriptor_file(service: &str) -> String {
    format!("{service}.descriptors.bin")
}

/// The file with the code of a package, named as `include_proto!` expects it: `a.type.rs` for the module
/// `a::r#type`.
pub(crate) fn package_file(module: &Module) -> String {
    let mut parts = Vec::new();
    for part in module.parts() {
        parts.push(match part {
            // These keywords cannot be raw identifiers.
            "crate_" | "extern_" | "self_" | "super_" => part.trim_end_matches('_'),
            part => plain(part),
        });
    }
    match parts[..] {
        [] => "_.rs".to_owned(),
        _ => parts.join(".") + ".rs",
    }
}

/// Whether a path does not depend on the module that uses it.
pub(crate) fn is_absolute(path: &str) -> bool {
    path.starts_with("::") || path.starts_with("crate::")
}

/// The snake case of an identifier by prost's own rules, keywords included: a package of one component.
fn snake(name: &str) -> String {
    Module::from_protobuf_package_name(name).parts().collect()
}

/// The Rust names of services, none of which clashes with another item of the package.
pub(crate) struct ServiceNames {
    /// How many suffixes a service needs, by its full name; most need none and are not here.
    suffixes: HashMap<String, usize>,
}

impl ServiceNames {
    /// Fails if two methods of a service have one name in Rust.
    pub(crate) fn new(set: &FileDescriptorSet) -> Result<Self, Error> {
        let mut taken = HashSet::new();
        for file in &set.file {
            let messages = file.message_type.iter().map(|message| message.name());
            let enums = file.enum_type.iter().map(|r#enum| r#enum.name());
            for name in messages.chain(enums) {
                taken.insert((file.package(), snake(name)));
            }
            // A package `a.b` is usually a module `b` within the module `a`.
            let mut nested = file.package();
            while !nested.is_empty() {
                let (parent, name) = nested.rsplit_once('.').unwrap_or(("", nested));
                taken.insert((parent, snake(name)));
                nested = parent;
            }
        }

        let mut suffixes = HashMap::new();
        let mut clashing = Vec::new();
        for file in &set.file {
            for service in &file.service {
                check_methods(file, service)?;
                if !taken.insert((file.package(), snake(service.name()))) {
                    clashing.push((file.package(), service.name()));
                }
            }
        }
        // Last, so that the new name of a service does not take the own name of another.
        for (package, service) in clashing {
            let (mut name, mut suffix) = (snake(service), 0);
            while !taken.insert((package, name.clone())) {
                name = format!("{}_service", plain(&name));
                suffix += 1;
            }
            suffixes.insert(full(package, service), suffix);
        }
        Ok(Self { suffixes })
    }

    /// The names of the trait and of the module of a service.
    pub(crate) fn of(&self, service: &prost_build::Service) -> (String, String) {
        let module = snake(&service.proto_name);
        match self.suffixes.get(&full(&service.package, &service.proto_name)) {
            None => (service.name.clone(), module),
            Some(&count) => (
                service.name.clone() + &"Service".repeat(count),
                plain(&module).to_owned() + &"_service".repeat(count),
            ),
        }
    }
}

fn check_methods(
    file: &FileDescriptorProto,
    service: &ServiceDescriptorProto,
) -> Result<(), Error> {
    let mut seen = HashMap::new();
    for method in &service.method {
        let rust = snake(method.name());
        if let Some(other) = seen.insert(rust.clone(), method.name()) {
            return Err(Error::invalid(format!(
                "{}: service {}: the methods {other} and {} are both `{rust}` in Rust",
                file.name(),
                full(file.package(), service.name()),
                method.name(),
            )));
        }
    }
    Ok(())
}

/// The name of the trait method: that of prost, unless the trait has a method of this name itself.
pub(crate) fn method(snake: &str) -> String {
    match snake {
        "into_service" => "into_service_".to_owned(),
        name => name.to_owned(),
    }
}

/// The name of the static that describes the method. It differs from the constants of the same module.
pub(crate) fn descriptor(snake: &str) -> String {
    match plain(snake).to_uppercase() {
        name if name == "NAME" || name == "FILE_DESCRIPTOR_SET" => name + "_",
        name => name,
    }
}

/// The type of prost's path, as seen from a module within the one that prost meant.
pub(crate) fn from_submodule(path: &str) -> String {
    // Prost's types for `google.protobuf.Empty` and the wrappers.
    const BUILT_IN: [&str; 8] = ["()", "bool", "f32", "f64", "i32", "i64", "u32", "u64"];
    if is_absolute(path) || BUILT_IN.contains(&path) {
        path.to_owned()
    } else {
        format!("super::{path}")
    }
}

fn plain(ident: &str) -> &str {
    ident.strip_prefix("r#").unwrap_or(ident)
}

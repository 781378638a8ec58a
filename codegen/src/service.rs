//! The code of a service: a trait to implement, and a module with its name, schema and methods.

use prost_build::{Comments, Method, Service, ServiceGenerator};
use prost_types::FileDescriptorSet;

use crate::error::Error;
use crate::names::{self, ServiceNames};

/// Prost calls it for each service. The code has only absolute paths, since any name may be a message of
/// the user.
pub(crate) struct Generator {
    names: ServiceNames,
    /// The path to balafon.
    balafon: String,
}

impl Generator {
    pub(crate) fn new(files: &FileDescriptorSet, crate_path: &str) -> Result<Self, Error> {
        Ok(Self { names: ServiceNames::new(files)?, balafon: crate_path.to_owned() })
    }
}

impl ServiceGenerator for Generator {
    fn generate(&mut self, service: Service, buf: &mut String) {
        let (trait_name, module) = self.names.of(&service);
        push_trait(&service, &trait_name, &module, &self.balafon, buf);
        push_arc_impl(&service, &trait_name, &self.balafon, buf);
        push_module(&service, &trait_name, &module, &self.balafon, buf);
    }
}

fn push_trait(service: &Service, trait_name: &str, module: &str, balafon: &str, buf: &mut String) {
    let full_name = names::full(&service.package, &service.proto_name);
    push_doc(&service.comments, &format!("The service `{full_name}`."), buf);
    if service.options.deprecated() {
        // Not `#[deprecated]`: an implementation has to name the trait.
        buf.push_str("///\n/// Deprecated.\n");
    }
    let bounds = "::core::marker::Sized + ::core::marker::Send + ::core::marker::Sync + 'static";
    // The `.proto` chose the names, which clippy may not accept.
    buf.push_str("#[allow(clippy::new_ret_no_self, clippy::wrong_self_convention)]\n");
    buf.push_str(&format!("pub trait {trait_name}: {bounds} {{\n"));
    for method in &service.methods {
        push_method_doc(method, buf);
        buf.push_str(&signature(method, balafon));
    }
    push_into_service(service, module, balafon, buf);
    buf.push_str("}\n");
}

/// A shared service is one as well, so that a program can keep what it registers.
fn push_arc_impl(service: &Service, trait_name: &str, balafon: &str, buf: &mut String) {
    if service.methods.iter().any(|method| method.options.deprecated()) {
        buf.push_str("#[allow(deprecated)]\n");
    }
    buf.push_str(&format!(
        "impl<Shared: {trait_name}> {trait_name} for ::std::sync::Arc<Shared> {{\n"
    ));
    for method in &service.methods {
        let args = if method.server_streaming { "request, out" } else { "request" };
        let signature = signature(method, balafon);
        buf.push_str(signature.trim_end_matches(";\n"));
        buf.push_str(&format!(
            "{{ <Shared as {trait_name}>::{name}(self, {args}) }}\n",
            name = names::method(&method.name)
        ));
    }
    buf.push_str("}\n");
}

fn signature(method: &Method, balafon: &str) -> String {
    let Method { input_type: input, output_type: output, .. } = method;
    let request = match method.client_streaming {
        true => format!("{balafon}::Streaming<{input}>"),
        false => input.clone(),
    };
    let (out, response) = match method.server_streaming {
        true => (format!(", out: {balafon}::Sink<{output}>"), "()".to_owned()),
        false => (String::new(), format!("{balafon}::Response<{output}>")),
    };
    format!(
        "fn {name}(&self, request: {balafon}::Request<{request}>{out}) \
         -> impl ::core::future::Future<Output = ::core::result::Result<{response}, {balafon}::Status>> \
         + ::core::marker::Send;\n",
        name = names::method(&method.name),
    )
}

fn push_into_service(service: &Service, module: &str, balafon: &str, buf: &mut String) {
    buf.push_str(&format!(
        "/// Registers the implementation: pass the result to [`Router::add`]({balafon}::Router::add).\n",
    ));
    if service.methods.iter().any(|method| method.options.deprecated()) {
        buf.push_str("#[allow(deprecated)]\n");
    }
    buf.push_str(&format!(
        "fn into_service(self) -> {balafon}::Service {{\n\
         {balafon}::Service::builder({module}::NAME, {module}::FILE_DESCRIPTOR_SET, self)\n"
    ));
    for method in &service.methods {
        let args = if method.server_streaming { "request, out" } else { "request" };
        // By path and not `this.method(..)`: `this` is an `Arc` with methods of its own, such as `clone`.
        buf.push_str(&format!(
            ".{shape}(&{module}::{descriptor}, |this, {args}| async move {{ Self::{name}(&this, {args}).await }})\n",
            shape = shape(method),
            descriptor = names::descriptor(&method.name),
            name = names::method(&method.name),
        ));
    }
    buf.push_str(".build()\n}\n");
}

fn push_module(service: &Service, trait_name: &str, module: &str, balafon: &str, buf: &mut String) {
    let full_name = names::full(&service.package, &service.proto_name);
    let descriptor_file = names::descriptor_file(&full_name);
    buf.push_str(&format!(
        "/// The name and the schema of [`{trait_name}`], and a descriptor of each method.\n\
         #[allow(clippy::module_inception)]\n\
         pub mod {module} {{\n\
         /// The full name of the service, as it stands in paths and in reflection.\n\
         pub const NAME: &str = {full_name:?};\n\
         /// A serialized `google.protobuf.FileDescriptorSet`: the file that defines the service, after all that it\n\
         /// imports.\n\
         pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{descriptor_file}\"));\n",
    ));
    for method in &service.methods {
        push_method_doc(method, buf);
        buf.push_str(&format!(
            "pub static {descriptor}: {balafon}::Rpc<{input}, {output}> = {balafon}::Rpc::{shape}({path:?});\n",
            descriptor = names::descriptor(&method.name),
            input = names::from_submodule(&method.input_type),
            output = names::from_submodule(&method.output_type),
            shape = shape(method),
            path = format!("/{full_name}/{}", method.proto_name),
        ));
    }
    buf.push_str("}\n");
}

/// The name of the constructor in `Rpc`, and of the method in balafon's service builder.
fn shape(method: &Method) -> &'static str {
    match (method.client_streaming, method.server_streaming) {
        (false, false) => "unary",
        (false, true) => "server_streaming",
        (true, false) => "client_streaming",
        (true, true) => "bidi_streaming",
    }
}

fn push_method_doc(method: &Method, buf: &mut String) {
    push_doc(&method.comments, &format!("The RPC `{}`.", method.proto_name), buf);
    if method.options.deprecated() {
        buf.push_str("#[deprecated]\n");
    }
}

/// The comment of the `.proto`, or the default if there is none: all public items are documented.
fn push_doc(comments: &Comments, default: &str, buf: &mut String) {
    if comments.leading.is_empty() && comments.trailing.is_empty() {
        buf.push_str(&format!("/// {default}\n"));
    } else {
        comments.append_with_indent(0, buf);
    }
}

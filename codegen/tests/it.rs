//! What the generator writes for the files in `tests/protos`.
#![allow(clippy::unwrap_used, reason = "a failed test is what unwrap is for")]

use std::fs;
use std::path::{Path, PathBuf};

use balafon_codegen::{Builder, Error};
use prost::Message;
use prost_types::FileDescriptorSet;
use tempfile::TempDir;

struct Generated(TempDir);

impl Generated {
    fn text(&self, file: &str) -> String {
        squeeze(&fs::read_to_string(self.0.path().join(file)).unwrap())
    }

    fn descriptors(&self, service: &str) -> Vec<u8> {
        fs::read(self.0.path().join(format!("{service}.descriptors.bin"))).unwrap()
    }

    fn descriptor_set(&self, service: &str) -> FileDescriptorSet {
        FileDescriptorSet::decode(&*self.descriptors(service)).unwrap()
    }
}

fn protos() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protos")
}

fn try_generate(files: &[&str]) -> Result<Generated, Error> {
    let dir = tempfile::tempdir().unwrap();
    Builder::new().descriptor_dir(dir.path()).compile(files, &[protos()])?;
    Ok(Generated(dir))
}

fn generate(file: &str) -> Generated {
    try_generate(&[file]).unwrap()
}

/// Code without what depends on how it is broken into lines.
fn squeeze(code: &str) -> String {
    code.replace(char::is_whitespace, "").replace(",)", ")").replace(",>", ">")
}

#[track_caller]
fn assert_has(text: &str, part: &str) {
    assert!(text.contains(&squeeze(part)), "no\n    {part}\nin\n{text}");
}

fn future(output: &str) -> String {
    format!(
        "-> impl ::core::future::Future<Output = ::core::result::Result<{output}, ::balafon::Status>> \
         + ::core::marker::Send;"
    )
}

#[test]
fn four_shapes_become_four_trait_methods() {
    let text = generate("greeter.proto").text("example.greeter.rs");
    let start = "pub trait Greeter: ::core::marker::Sized + ::core::marker::Send \
                 + ::core::marker::Sync + 'static {";
    assert_has(&text, start);
    for (method, output) in [
        (
            "fn say_hello(&self, request: ::balafon::Request<HelloRequest>)",
            "::balafon::Response<HelloReply>",
        ),
        (
            "fn say_all(&self, request: ::balafon::Request<()>, \
             out: ::balafon::Sink<hello_reply::Part>)",
            "()",
        ),
        (
            "fn collect(&self, request: ::balafon::Request<\
             ::balafon::Streaming<super::super::nested::deep::outer::Inner>>)",
            "::balafon::Response<bool>",
        ),
        (
            "fn chat(&self, request: ::balafon::Request<\
             ::balafon::Streaming<::balafon::prost_types::Timestamp>>, \
             out: ::balafon::Sink<::balafon::prost::alloc::string::String>)",
            "()",
        ),
    ] {
        assert_has(&text, &(method.to_owned() + &future(output)));
    }
}

#[test]
fn into_service_registers_each_method_once() {
    let text = generate("greeter.proto").text("example.greeter.rs");
    for part in [
        "fn into_service(self) -> ::balafon::Service { \
         ::balafon::Service::builder( greeter::NAME, greeter::FILE_DESCRIPTOR_SET, self, )",
        ".unary( &greeter::SAY_HELLO, |this, request| async move { \
         Self::say_hello(&this, request).await }, )",
        ".server_streaming( &greeter::SAY_ALL, |this, request, out| async move { \
         Self::say_all(&this, request, out).await }, )",
        ".client_streaming( &greeter::COLLECT, |this, request| async move { \
         Self::collect(&this, request).await }, )",
        ".bidi_streaming( &greeter::CHAT, |this, request, out| async move { \
         Self::chat(&this, request, out).await }, ) .build() }",
    ] {
        assert_has(&text, part);
    }
}

#[test]
fn service_module_paths_are_one_level_deeper() {
    let text = generate("greeter.proto").text("example.greeter.rs");
    for part in [
        "pub const NAME: &str = \"example.greeter.Greeter\";",
        "pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!( \
         concat!(env!(\"OUT_DIR\"), \"/example.greeter.Greeter.descriptors.bin\") );",
        "pub static SAY_HELLO: ::balafon::Rpc<super::HelloRequest, super::HelloReply> \
         = ::balafon::Rpc::unary(\"/example.greeter.Greeter/SayHello\");",
        "pub static SAY_ALL: ::balafon::Rpc<(), super::hello_reply::Part> \
         = ::balafon::Rpc::server_streaming(\"/example.greeter.Greeter/SayAll\");",
        "pub static COLLECT: ::balafon::Rpc< super::super::super::nested::deep::outer::Inner, \
         bool, > = ::balafon::Rpc::client_streaming(\"/example.greeter.Greeter/Collect\");",
        "pub static CHAT: ::balafon::Rpc< ::balafon::prost_types::Timestamp, \
         ::balafon::prost::alloc::string::String, > \
         = ::balafon::Rpc::bidi_streaming(\"/example.greeter.Greeter/Chat\");",
    ] {
        assert_has(&text, part);
    }
}

#[test]
fn messages_reach_prost_through_balafon() {
    let text = generate("greeter.proto").text("example.greeter.rs");
    assert_has(&text, "#[derive(Clone, PartialEq, Eq, Hash, ::balafon::prost::Message)]");
    assert_has(&text, "#[prost(prost_path = \"::balafon::prost\")]");
    assert_has(&text, "impl ::balafon::prost::Name for HelloRequest");
    assert_has(&text, "\"type.googleapis.com/example.greeter.HelloRequest\"");
    assert_has(&text, "::core::option::Option<::balafon::prost_types::Timestamp>");
}

#[test]
fn comments_become_documentation() {
    let text = generate("greeter.proto").text("example.greeter.rs");
    assert_has(&text, "/// One greeting. fn say_hello");
    assert_has(&text, "/// One greeting. pub static SAY_HELLO");
    assert_has(&text, "/// Trailing. fn collect");
    assert_has(&text, "/// Both ways. fn chat");
    assert_has(&text, "/// The service `example.greeter.Farewell`. #[allow(");
    assert_has(&text, "/// The RPC `SayBye`. fn say_bye");
    assert!(!text.contains("detached"));
}

#[test]
fn documentation_is_escaped_once_without_doctests() {
    let text = generate("greeter.proto").text("example.greeter.rs");
    assert_has(
        &text,
        r"/// See <https://example.com/hello> or list\[0\] and \<name>; `<code>` stays.",
    );
    assert_has(
        &text,
        "/// ```text /// let indented = code; /// ``` /// \
         /// ```text /// let fenced: Vec<u8> = code; /// ``` #[allow(",
    );
    assert_has(&text, "/// ```text /// assert!(false, \"not a test\"); /// ``` #[derive");
}

#[test]
fn keywords_and_reserved_names_are_renamed() {
    let text = generate("keywords.proto").text("example.keywords.rs");
    for part in [
        "pub trait Type:",
        "pub mod r#type {",
        "r#type::NAME",
        "fn r#type(",
        "pub static TYPE:",
        "fn r#move(",
        "pub static MOVE:",
        "fn self_(",
        "pub static SELF_:",
        "fn into_service_(",
        "Self::into_service_(&this, request)",
        "pub static INTO_SERVICE:",
        "fn name(",
        "pub static NAME_:",
        "fn file_descriptor_set(",
        "pub static FILE_DESCRIPTOR_SET_:",
        "Self::clone(&this, request)",
        "Rpc::unary(\"/example.keywords.Type/IntoService\")",
    ] {
        assert_has(&text, part);
    }
}

#[test]
fn deprecated_methods_warn_their_callers_only() {
    let text = generate("keywords.proto").text("example.keywords.rs");
    assert_has(&text, "#[deprecated] fn old(");
    assert_has(&text, "#[deprecated] pub static OLD:");
    assert_has(&text, "#[allow(deprecated)] fn into_service(self)");
    assert_has(&text, "#[allow(deprecated)] impl<Shared: Type> Type for ::std::sync::Arc<Shared>");
    assert_eq!(text.matches("deprecated").count(), 4);
}

#[test]
fn service_names_avoid_messages_and_nested_packages() {
    let text = generate("clash.proto").text("example.clash.rs");
    // `User` cannot become `UserService`, since that is there, too.
    assert_has(&text, "pub trait UserServiceService:");
    assert_has(&text, "pub mod user_service_service {");
    assert_has(&text, "/example.clash.User/Find");
    assert_has(&text, "pub trait UserService:");
    assert_has(&text, "pub mod user_service {");
    assert_has(&text, "pub trait BillingService:");
    assert_has(&text, "pub mod billing_service {");
    assert_has(&text, "pub const NAME: &str = \"example.clash.Billing\";");
}

#[test]
fn service_without_a_package() {
    let generated = generate("no_package.proto");
    let text = generated.text("_.rs");
    assert_has(&text, "pub const NAME: &str = \"Bare\";");
    assert_has(
        &text,
        "pub static CALL: ::balafon::Rpc<super::Plain, super::nested::deep::Outer> \
         = ::balafon::Rpc::unary(\"/Bare/Call\");",
    );
    assert_eq!(generated.descriptor_set("Bare").file.len(), 2);
}

#[test]
fn descriptor_set_is_the_file_after_its_imports() {
    let generated = try_generate(&["keywords.proto", "greeter.proto", "clash.proto"]).unwrap();
    let set = generated.descriptor_set("example.greeter.Greeter");
    let names: Vec<_> = set.file.iter().map(|file| file.name()).collect();
    for (index, file) in set.file.iter().enumerate() {
        assert!(file.dependency.iter().all(|import| names[..index].contains(&import.as_str())));
        assert!(file.source_code_info.is_none());
    }
    assert_eq!(names.last(), Some(&"greeter.proto"));
    let mut names = names;
    names.sort_unstable();
    let expected = [
        "google/protobuf/descriptor.proto",
        "google/protobuf/empty.proto",
        "google/protobuf/timestamp.proto",
        "google/protobuf/wrappers.proto",
        "greeter.proto",
        "nested/deep/types.proto",
        "options.proto",
    ];
    assert_eq!(names, expected);
}

#[test]
fn descriptor_set_keeps_custom_options() {
    let bytes = generate("greeter.proto").descriptors("example.greeter.Greeter");
    // Field 50001, length-delimited, 8 bytes.
    let option = [&[0x8a, 0xb5, 0x18, 8], b"everyone".as_slice()].concat();
    assert!(bytes.windows(option.len()).any(|window| window == option));
}

#[test]
fn descriptor_sets_of_one_file_are_equal() {
    let generated = generate("greeter.proto");
    assert_eq!(
        generated.descriptors("example.greeter.Greeter"),
        generated.descriptors("example.greeter.Farewell"),
    );
}

#[test]
fn descriptor_sets_are_not_rewritten_unchanged() {
    let generated = generate("greeter.proto");
    let modified = || {
        let path = generated.0.path().join("example.greeter.Greeter.descriptors.bin");
        fs::metadata(path).unwrap().modified().unwrap()
    };
    let before = modified();
    let again = Builder::new().descriptor_dir(generated.0.path());
    again.compile(&["greeter.proto"], &[protos()]).unwrap();
    assert_eq!(modified(), before);
}

#[test]
fn errors_name_file_line_and_column() {
    for (file, start) in [
        ("broken_syntax.proto", "broken_syntax.proto:4:15: expected"),
        ("broken_type.proto", "broken_type.proto:4:3: name 'Unknown' is not defined"),
        ("broken_import.proto", "broken_import.proto:3:1: import 'nowhere.proto' not found"),
        ("edition.proto", "edition.proto:5:1: editions are not supported: wanted syntax"),
        ("nowhere.proto", "file 'nowhere.proto' does not exist"),
        (
            "same_method.proto",
            "same_method.proto: service example.same.Twice: the methods GetUser and getUser are both `get_user`",
        ),
    ] {
        let err = try_generate(&[file]).err().unwrap();
        assert!(err.to_string().starts_with(start), "{err}");
        assert_eq!(err.to_string(), format!("{err:?}"));
    }
}

#[test]
fn files_are_named_by_path_or_import() {
    let path = protos().join("nested/deep/types.proto");
    for name in ["nested/deep/types.proto", path.to_str().unwrap()] {
        assert_has(&generate(name).text("nested.deep.rs"), "pub struct Outer");
    }
}

#[test]
fn compile_outside_of_a_build_script_is_an_error() {
    let err = balafon_codegen::compile(&["greeter.proto"], &[protos()]).unwrap_err();
    assert!(err.to_string().starts_with("OUT_DIR is not set"), "{err}");
}

#[test]
fn crate_path_has_to_be_absolute() {
    let err = Builder::new().crate_path("rpc").compile(&["greeter.proto"], &[protos()]);
    assert!(err.unwrap_err().to_string().starts_with("crate path 'rpc': wanted"));
}

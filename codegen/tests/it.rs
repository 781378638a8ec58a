//! What the generator writes for the files in `tests/protos`.
#![allow(clippy::unwrap_used, reason = "a failed test is what unwrap is for")]

use std::fs;
use std::path::{Path, PathBuf};

use balafon_codegen::prost_build::Config;
use balafon_codegen::{Error, compile_to};
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
    let mut config = Config::new();
    config.out_dir(dir.path());
    compile_to(dir.path(), config, files, &[protos()])?;
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
fn paths_in_the_module_of_a_service_are_one_level_deeper() {
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
fn documentation_is_escaped_once_and_its_code_is_not_a_test() {
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
fn keywords_and_names_of_our_own_are_kept_apart() {
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
fn a_deprecated_method_is_deprecated_for_its_callers_only() {
    let text = generate("keywords.proto").text("example.keywords.rs");
    assert_has(&text, "#[deprecated] fn old(");
    assert_has(&text, "#[deprecated] pub static OLD:");
    assert_has(&text, "#[allow(deprecated)] fn into_service(self)");
    assert_eq!(text.matches("deprecated").count(), 3);
}

#[test]
fn a_service_gives_way_to_a_message_and_to_a_nested_package() {
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
fn a_service_needs_no_package() {
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
fn a_descriptor_set_holds_the_file_after_all_that_it_imports_and_nothing_else() {
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
fn a_descriptor_set_keeps_custom_options() {
    let bytes = generate("greeter.proto").descriptors("example.greeter.Greeter");
    // Field 50001, length-delimited, 8 bytes.
    let option = [&[0x8a, 0xb5, 0x18, 8], b"everyone".as_slice()].concat();
    assert!(bytes.windows(option.len()).any(|window| window == option));
}

#[test]
fn two_services_of_a_file_have_the_same_descriptors() {
    let generated = generate("greeter.proto");
    assert_eq!(
        generated.descriptors("example.greeter.Greeter"),
        generated.descriptors("example.greeter.Farewell"),
    );
}

#[test]
fn a_second_run_does_not_touch_the_descriptors() {
    let generated = generate("greeter.proto");
    let modified = || {
        let path = generated.0.path().join("example.greeter.Greeter.descriptors.bin");
        fs::metadata(path).unwrap().modified().unwrap()
    };
    let before = modified();
    let mut config = Config::new();
    config.out_dir(generated.0.path());
    compile_to(generated.0.path(), config, &["greeter.proto"], &[protos()]).unwrap();
    assert_eq!(modified(), before);
}

#[test]
fn an_error_names_file_line_and_column() {
    for (file, start) in [
        ("broken_syntax.proto", "broken_syntax.proto:4:15: expected"),
        ("broken_type.proto", "broken_type.proto:4:3: name 'Unknown' is not defined"),
        ("broken_import.proto", "broken_import.proto:3:1: import 'nowhere.proto' not found"),
        ("nowhere.proto", "file 'nowhere.proto' does not exist"),
        (
            "same_method.proto",
            "service example.same.Twice: the methods GetUser and getUser are both `get_user`",
        ),
    ] {
        let err = try_generate(&[file]).err().unwrap();
        assert!(err.to_string().starts_with(start), "{err}");
        assert_eq!(err.to_string(), format!("{err:?}"));
    }
}

#[test]
fn a_file_is_named_by_its_path_or_as_in_an_import() {
    let path = protos().join("nested/deep/types.proto");
    for name in ["nested/deep/types.proto", path.to_str().unwrap()] {
        assert_has(&generate(name).text("nested.deep.rs"), "pub struct Outer");
    }
}

#[test]
fn outside_of_a_build_script_there_is_no_out_dir() {
    let err = balafon_codegen::compile(&["greeter.proto"], &[protos()]).unwrap_err();
    assert!(err.to_string().starts_with("OUT_DIR is not set"), "{err}");
}

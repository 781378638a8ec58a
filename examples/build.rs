//! Makes Rust code of the `.proto` files: messages, and a trait for each service.

fn main() -> Result<(), balafon_codegen::Error> {
    balafon_codegen::compile(&["proto/greeter.proto", "proto/numbers.proto"], &["proto"])
}

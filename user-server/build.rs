//! Compiles the user service's messages.

fn main() -> Result<(), balafon_codegen::Error> {
    balafon_codegen::compile(&["../proto/user_service.proto"], &["../proto"])
}

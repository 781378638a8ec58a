//! Compiles the protocol's own messages.

fn main() -> Result<(), balafon_codegen::Error> {
    let own = [
        "proto/google/rpc/status.proto",
        "proto/google/rpc/error_details.proto",
        "proto/grpc/health/v1/health.proto",
        "proto/grpc/reflection/v1/reflection.proto",
        "proto/grpc/reflection/v1alpha/reflection.proto",
    ];
    balafon_codegen::compile(&own, &["proto"])?;
    let details = balafon_codegen::descriptor_set(&own[..2], &["proto"])?;
    let out_dir = std::env::var("OUT_DIR").expect("Cargo sets it for build scripts");
    std::fs::write(format!("{out_dir}/google.rpc.descriptors.bin"), details)
        .expect("Cargo has made the directory");
    Ok(())
}

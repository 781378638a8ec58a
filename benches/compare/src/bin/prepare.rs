//! Makes what the run needs beside binaries.
//!
//! - `prepare certificate FOLDER`: `cert.pem` and `key.pem` for localhost.
//! - `prepare token FOLDER`: a `secret`, and `authorization`, a header with a token that it signed.
//! - `prepare go PLUGIN FOLDER`: the code that a plugin of protoc makes of both `.proto` files, without protoc.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use balafon::interceptors::auth::DevelopmentToken;
use balafon::prost_types::FileDescriptorSet;
use balafon::prost_types::compiler::{CodeGeneratorRequest, CodeGeneratorResponse};
use compare::production::{AUDIENCE, ISSUER, ROLE};
use prost::Message;

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &*words.iter().map(String::as_str).collect::<Vec<_>>() {
        ["certificate", folder] => certificate(Path::new(folder)),
        ["token", folder] => token(Path::new(folder)),
        ["go", plugin, folder] => go(plugin, Path::new(folder)),
        _ => Err("prepare certificate FOLDER | token FOLDER | go PLUGIN FOLDER".into()),
    }
}

fn certificate(folder: &Path) -> Result<(), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write(folder.join("cert.pem"), made.cert.pem())?;
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
    Ok(())
}

fn token(folder: &Path) -> Result<(), Box<dyn Error>> {
    let secret = folder.join("secret");
    fs::write(&secret, "only for the comparison: nobody else trusts it")?;
    let token = DevelopmentToken::new("load", Duration::from_secs(24 * 3600))
        .roles([ROLE])
        .claim("iss", ISSUER)
        .claim("aud", AUDIENCE)
        .sign(&secret, "HS256")?;
    fs::write(folder.join("authorization"), format!("Bearer {token}"))?;
    Ok(())
}

fn go(plugin: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    let files = ["user_service.proto", "echo.proto"];
    let packages = files.map(|file| format!("M{file}=balafon/compare/pb"));
    let request = CodeGeneratorRequest {
        file_to_generate: files.map(str::to_owned).to_vec(),
        parameter: Some(format!("paths=source_relative,{}", packages.join(","))),
        proto_file: FileDescriptorSet::decode(DESCRIPTORS)?.file,
        compiler_version: None,
    };
    let mut child = Command::new(plugin).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("it is piped")?.write_all(&request.encode_to_vec())?;
    let response = CodeGeneratorResponse::decode(&*child.wait_with_output()?.stdout)?;
    if let Some(error) = response.error {
        return Err(error.into());
    }
    fs::create_dir_all(folder)?;
    for file in response.file {
        fs::write(folder.join(file.name()), file.content())?;
    }
    Ok(())
}

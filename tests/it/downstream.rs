//! A crate outside the workspace with its own service: exactly the one of the quick start.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use balafon::prost;

use crate::support::peer::{Peer, request};

const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The code blocks of the quick start that begin with the name of a file.
fn files_of_the_quick_start() -> Vec<(String, String)> {
    let page = fs::read_to_string(Path::new(CHECKOUT).join("docs/library/quickstart.md")).unwrap();
    let blocks = page.split("```").skip(1).step_by(2);
    let named = blocks.filter_map(|block| {
        let (_language, code) = block.split_once('\n')?;
        let name =
            code.lines().next()?.trim_start_matches(['#', '/', ' ']).strip_prefix("file: ")?;
        Some((name.to_owned(), code.to_owned()))
    });
    named.collect()
}

/// Writes the crate outside the workspace and builds it.
fn build(folder: &Path) -> PathBuf {
    let files = files_of_the_quick_start();
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Cargo.toml", "proto/greeter.proto", "build.rs", "src/main.rs"]);
    for (name, code) in &files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, code.replace("../balafon", CHECKOUT)).unwrap();
    }
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let dependencies = manifest.lines().filter(|line| line.contains("path = "));
    assert_eq!(dependencies.count(), 2, "nothing but balafon and balafon-codegen");
    // Uses the versions of this lock file, so that the test needs no network.
    fs::copy(Path::new(CHECKOUT).join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let target = Path::new(CHECKOUT).join("target/downstream");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--offline"])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .unwrap();
    assert!(status.success(), "the crate of the quick start does not build");
    target.join("debug/greeter")
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Name {
    #[prost(string, tag = "1")]
    text: String,
}

#[tokio::test]
async fn quick_start_builds_and_serves_with_balafon_alone() {
    let folder = std::env::temp_dir().join(format!("balafon-downstream-{}", std::process::id()));
    let program = build(&folder);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = Command::new(program).arg(free.to_string()).spawn().unwrap();
    let _running = Running(child);

    let mut peer = connect(free).await;
    let mut body = bytes::BytesMut::new();
    let name = Name { text: "world".to_owned() };
    balafon::grpc::frame::encode(&mut body, &name, usize::MAX).unwrap();
    let reply = peer.call(request("/helloworld.Greeter/SayHello"), body.freeze()).await;
    assert_eq!(reply.messages(), ["Hello, world!"]);
    fs::remove_dir_all(folder).unwrap();
}

async fn connect(addr: SocketAddr) -> Peer {
    let until = std::time::Instant::now() + crate::support::PATIENCE;
    while tokio::net::TcpStream::connect(addr).await.is_err() {
        assert!(std::time::Instant::now() < until, "the greeter does not listen");
        tokio::task::yield_now().await;
    }
    Peer::connect(addr).await
}

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};

use super::folder::Folder;
use crate::tls::Identity;

/// A password, so that a URL in a log would show a secret.
const PASSWORD: &str = "hunter2";

/// A Redis of a single test, without persistence.
pub struct Redis {
    port: u16,
    folder: Folder,
    child: Option<Child>,
    /// Certificate and key, if it speaks TLS.
    tls: Option<[String; 2]>,
    /// Further arguments.
    arguments: Vec<String>,
}

impl Redis {
    /// `None` if it is not installed: then the test ends. With `CI` set that is a failure.
    pub fn start() -> Option<Self> {
        let mut redis = Self::stopped()?;
        redis.go_on();
        Some(redis)
    }

    /// A Redis that speaks TLS only.
    pub fn with(identity: &Identity) -> Option<Self> {
        let mut redis = Self::stopped()?;
        let write = |name, pem| redis.folder.write(name, pem);
        redis.tls = Some([write("cert.pem", &identity.chain), write("key.pem", &identity.key)]);
        redis.go_on();
        Some(redis)
    }

    /// A Redis with further arguments.
    pub fn with_arguments(arguments: &[&str]) -> Option<Self> {
        let mut redis = Self::stopped()?;
        redis.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        redis.go_on();
        Some(redis)
    }

    /// A sentinel that watches no server.
    pub fn sentinel() -> Option<Self> {
        let mut redis = Self::stopped()?;
        // It writes into its configuration file.
        let file = redis.folder.write("sentinel.conf", "");
        redis.arguments = vec![file, "--sentinel".to_owned()];
        redis.go_on();
        Some(redis)
    }

    /// Runs a command on it, such as `config set maxmemory 1`.
    pub fn command(&self, words: &[&str]) {
        let client = ::redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let () = ::redis::cmd(words[0]).arg(&words[1..]).query(&mut connection).unwrap();
    }

    /// The URL of a Redis that is not started yet.
    pub fn stopped() -> Option<Self> {
        let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if version.is_err() {
            assert!(std::env::var_os("CI").is_none(), "wanted redis-server");
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        Some(Self { port, folder: Folder::new(), child: None, tls: None, arguments: Vec::new() })
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://:{PASSWORD}@127.0.0.1:{}/0", self.port)
    }

    /// Starts it on its former port.
    pub fn go_on(&mut self) {
        let (mut command, port) = (Command::new("redis-server"), self.port.to_string());
        command.args(&self.arguments);
        match &self.tls {
            None => command.args(["--port", &port]),
            Some([certificate, key]) => command
                .args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"])
                .args(["--tls-cert-file", certificate, "--tls-key-file", key]),
        };
        let mut child = command
            .args(["--bind", "127.0.0.1"])
            .args(["--requirepass", PASSWORD, "--save", "", "--appendonly", "no", "--dir"])
            .arg(self.folder.path(""))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stdout.take().unwrap());
        self.child = Some(child);
        let mut lines = log.lines().map_while(Result::ok);
        let is_ready = ["Ready to accept connections", "Sentinel ID is"];
        assert!(lines.any(|line| is_ready.iter().any(|text| line.contains(text))));
        // Its later output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Ends it, with all its data.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

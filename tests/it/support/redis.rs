use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};

use super::folder::Folder;
use crate::tls::Identity;

/// So that whoever shows the URL shows a secret.
const PASSWORD: &str = "hunter2";

/// A Redis of a test's own, which keeps nothing.
pub struct Redis {
    port: u16,
    folder: Folder,
    child: Option<Child>,
    /// Of certificate and key, if it speaks TLS.
    tls: Option<[String; 2]>,
}

impl Redis {
    /// `None`, and the test is to end, where it is not installed. Where `CI` is set it has to be.
    pub fn start() -> Option<Self> {
        let mut redis = Self::stopped()?;
        redis.go_on();
        Some(redis)
    }

    /// One that speaks TLS and nothing else.
    pub fn with(identity: &Identity) -> Option<Self> {
        let mut redis = Self::stopped()?;
        let write = |name, pem| redis.folder.write(name, pem);
        redis.tls = Some([write("cert.pem", &identity.chain), write("key.pem", &identity.key)]);
        redis.go_on();
        Some(redis)
    }

    /// The same before it is there.
    pub fn stopped() -> Option<Self> {
        let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if version.is_err() {
            assert!(std::env::var_os("CI").is_none(), "wanted redis-server");
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        Some(Self { port, folder: Folder::new(), child: None, tls: None })
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://:{PASSWORD}@127.0.0.1:{}/0", self.port)
    }

    /// Starts it, on the same port as before.
    pub fn go_on(&mut self) {
        let (mut command, port) = (Command::new("redis-server"), self.port.to_string());
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
        assert!(lines.any(|line| line.contains("Ready to accept connections")));
        // What it has to say later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Ends it, with all that it knows.
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

//! The program `user-server` as a process.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

/// Without the variables of the test environment that would be settings. `USER_SERVER_HTTP2` stays:
/// it selects the transport of all tests.
pub fn user_server() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_user-server"));
    let ours = |name: &str| {
        name != "USER_SERVER_HTTP2"
            && ["USER_SERVER_", "OTEL_"].iter().any(|start| name.starts_with(start))
    };
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command
}

/// The same under the limits that the shell command `limit` sets.
#[cfg(target_os = "linux")]
pub fn user_server_under(limit: &str) -> Command {
    let plain = user_server();
    let mut command = Command::new("sh");
    command.args(["-c", &format!(r#"{limit} && exec "$0" "$@""#)]).arg(plain.get_program());
    for (name, _) in plain.get_envs() {
        command.env_remove(name);
    }
    command
}

/// In memory unless the arguments name a store: concurrent tests would share the default store.
pub fn fails(arguments: &[&str]) -> Output {
    let mut command = user_server();
    let output = command.env("USER_SERVER_STORE", "memory:").args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    output
}

/// The single line with the reason why it did not start.
pub fn complaint(arguments: &[&str]) -> String {
    let output = fails(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.stdout.is_empty());
    text
}

pub struct Running {
    pub child: Child,
    /// Taken by a test that stops reading.
    pub log: Option<BufReader<ChildStderr>>,
    pub address: String,
    /// The address of the admin endpoint, if there is one.
    pub admin: Option<String>,
    /// The log line with the address.
    pub listening: String,
    /// The lines before it.
    pub before: String,
}

impl Running {
    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = user_server();
        command.args(arguments).envs(environment.iter().copied());
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
        // A test that names no store leaves no users behind.
        if !command.get_args().any(|argument| argument == "--store") {
            command.args(["--store", "memory:"]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = child.stderr.take().map(BufReader::new);
        let mut running = Self {
            child,
            log,
            address: String::new(),
            admin: None,
            listening: String::new(),
            before: String::new(),
        };
        loop {
            let line = running.line_with("");
            let field = |name| {
                let (_, value) = line.split_once(&format!("\"{name}\":\""))?;
                Some(value.split_once('"')?.0.to_owned())
            };
            if line.contains("listening") {
                running.address = field("address").unwrap();
                running.listening = line;
                break;
            }
            if let Some(admin) = field("admin") {
                running.admin = Some(admin);
            }
            running.before += &line;
        }
        running
    }

    /// The CPU time of the process in ticks of the kernel: a hundred a second.
    #[cfg(target_os = "linux")]
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name, in parentheses, may hold any character; utime and stime are the fields 14 and
        // 15.
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum()
    }

    /// A memory figure of Linux, such as `VmRSS` or `VmHWM`, in KiB.
    #[cfg(target_os = "linux")]
    pub fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn line_with(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let log = self.log.as_mut().unwrap();
            assert!(log.read_line(&mut line).unwrap() > 0, "the log ended before {word:?}");
            if line.contains(word) {
                return line;
            }
        }
    }

    /// The rest of the log, up to its end.
    pub fn rest_of_log(&mut self) -> String {
        let mut rest = String::new();
        self.log.as_mut().unwrap().read_to_string(&mut rest).unwrap();
        rest
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

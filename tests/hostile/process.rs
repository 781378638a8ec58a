//! The server as a process, and the kernel's figures about processes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

fn user_server() -> Command {
    let program = std::env::var("BALAFON_SERVER");
    let program = program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_user-server"));
    let mut command = Command::new(program);
    let is_setting = |name: &str| name.starts_with("USER_SERVER_") && name != "USER_SERVER_HTTP2";
    for (name, _) in std::env::vars().filter(|(name, _)| is_setting(name)) {
        command.env_remove(name);
    }
    command
}

/// A token that is signed with the secret in this file.
pub(crate) fn token(secret: &str) -> String {
    let arguments = ["token", "--auth-secret", secret, "--subject", "bystander", "--roles", "any"];
    let output = user_server().args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Server {
    pub(crate) fn start(arguments: &[String]) -> Self {
        let mut command = user_server();
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json"]).args(arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::with_capacity(1 << 18, child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server does not start");
            if line.contains("listening") {
                let (_, address) = line.split_once(r#""address":""#).expect(&line);
                break address.split_once('"').unwrap().0.parse().unwrap();
            }
        };
        // The log is read as fast as it is written: a stalled reader is another test.
        std::thread::spawn(move || {
            let mut sink = vec![0; 1 << 18];
            while log.read(&mut sink).is_ok_and(|count| count > 0) {}
        });
        Self { child, address }
    }

    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Resident memory, in bytes: `VmRSS` now, `VmHWM` at its highest.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// Resets `VmHWM` to the current value (proc_pid_clear_refs(5)).
    pub(crate) fn forget_peak(&self) {
        let _ = fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }

    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The busy time of all processors, and the elapsed time of all of them.
pub(crate) fn machine() -> [Duration; 2] {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)).
    let ticks: Vec<_> = fields.take(8).map(|field| field.parse().unwrap_or(0)).collect();
    let all: u32 = ticks.iter().sum();
    let idle: u32 = ticks.iter().skip(3).take(2).sum();
    [TICK * (all - idle), TICK * all]
}

/// The unit in which the kernel reports CPU time, whatever its internal clock (proc_pid_stat(5)).
const TICK: Duration = Duration::from_millis(10);

/// The CPU time of a process, in user mode and in the kernel.
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold any character; utime and stime are the fields 14 and 15.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok());
    TICK * ticks.sum::<u32>()
}
